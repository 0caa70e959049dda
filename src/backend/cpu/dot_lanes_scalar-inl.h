// The operations of dot_lanes-inl.h in plain C++, for Highway's scalar target: CPUs without SSSE3 or NEON.
// Included for that target alone, so an ordinary guard it is: Highway's toggling one would depend on how many
// targets came before.
#ifndef DS4_DOT_LANES_SCALAR_INL_H
#define DS4_DOT_LANES_SCALAR_INL_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

template <typename T, std::size_t N>
struct Bundle {
    T at[N];
};
using I8x32 = Bundle<std::int8_t, 32>;
using U8x32 = Bundle<std::uint8_t, 32>;
using I16x16 = Bundle<std::int16_t, 16>;
using I32x8 = Bundle<std::int32_t, 8>;
using F32x8 = Bundle<float, 8>;

inline U8x32 load_u8(const std::uint8_t* p) {
    U8x32 v;
    std::memcpy(v.at, p, sizeof v.at);
    return v;
}

inline I8x32 load_i8(const std::int8_t* p) {
    I8x32 v;
    std::memcpy(v.at, p, sizeof v.at);
    return v;
}

inline I16x16 load_i16(const std::byte* p) {
    return quant::load<I16x16>(p);
}

inline F32x8 load_f32(const std::byte* p) {
    return quant::load<F32x8>(p);
}

inline F32x8 load_f16(const std::byte* p) {
    F32x8 v;
    for (std::size_t i = 0; i < 8; ++i) v.at[i] = quant::f16_to_f32(quant::load<std::uint16_t>(p + 2 * i));
    return v;
}

inline F32x8 load_bf16(const std::byte* p) {
    F32x8 v;
    for (std::size_t i = 0; i < 8; ++i) v.at[i] = quant::bf16_to_f32(quant::load<std::uint16_t>(p + 2 * i));
    return v;
}

inline float load_scale_f16(const std::byte* p) {
    return quant::f16_to_f32(quant::load<std::uint16_t>(p));
}

inline U8x32 load_nibbles(const std::uint8_t* p) {
    U8x32 v;
    for (std::size_t i = 0; i < 16; ++i) {
        v.at[i] = p[i] & 15;
        v.at[i + 16] = static_cast<std::uint8_t>(p[i] >> 4);
    }
    return v;
}

inline U8x32 load_table_rows(const std::uint64_t* table, const std::uint8_t* rows) {
    U8x32 v;
    for (std::size_t l = 0; l < 4; ++l) std::memcpy(v.at + 8 * l, table + rows[l], 8);
    return v;
}

inline I16x16 load_twice_u8(const std::uint8_t* p) {
    I16x16 v;
    for (std::size_t i = 0; i < 16; ++i) v.at[i] = p[i / 2];
    return v;
}

inline I8x32 load_signs(const std::uint8_t* bits) {
    I8x32 v;
    for (std::size_t i = 0; i < 32; ++i) v.at[i] = (bits[i / 8] >> (i % 8)) & 1 ? -1 : 1;
    return v;
}

inline void unpack_iq2xxs(const std::byte* groups, std::uint32_t* signs, std::uint32_t* scales) {
    for (std::size_t g = 0; g < 8; ++g) {
        const auto packed = quant::load<std::uint32_t>(groups + g * sizeof(quant::GroupIQ2XXS) + 4);
        scales[g] = 2 * (packed >> 28) + 1;
        signs[g] = 0;
        for (int l = 0; l < 4; ++l) {
            signs[g] |= static_cast<std::uint32_t>(quant::iq2xxs_signs((packed >> (7 * l)) & 127)) << (8 * l);
        }
    }
}

template <int kShift, std::uint8_t kMask>
inline U8x32 bit_field(const U8x32& v) {
    U8x32 out;
    for (std::size_t i = 0; i < 32; ++i) out.at[i] = static_cast<std::uint8_t>((v.at[i] >> kShift) & kMask);
    return out;
}

inline I8x32 lookup(const std::int8_t* table, const U8x32& codes) {
    I8x32 out;
    for (std::size_t i = 0; i < 32; ++i) out.at[i] = table[codes.at[i]];
    return out;
}

inline U8x32 abs(const I8x32& v) {
    U8x32 out;
    for (std::size_t i = 0; i < 32; ++i)
        out.at[i] = static_cast<std::uint8_t>(v.at[i] < 0 ? -v.at[i] : v.at[i]);
    return out;
}

inline I8x32 apply_signs(const I8x32& v, const I8x32& signs) {
    I8x32 out;
    for (std::size_t i = 0; i < 32; ++i)
        out.at[i] = static_cast<std::int8_t>(signs.at[i] < 0 ? -v.at[i] : v.at[i]);
    return out;
}

inline I16x16 pair_products(const U8x32& u, const I8x32& v) {
    I16x16 out;
    for (std::size_t i = 0; i < 16; ++i) {
        out.at[i] = static_cast<std::int16_t>(u.at[2 * i] * v.at[2 * i] + u.at[2 * i + 1] * v.at[2 * i + 1]);
    }
    return out;
}

inline I16x16 halves_i16(int low, int high) {
    I16x16 v;
    for (std::size_t i = 0; i < 16; ++i) v.at[i] = static_cast<std::int16_t>(i < 8 ? low : high);
    return v;
}

inline I16x16 broadcast_i16(int value) {
    return halves_i16(value, value);
}

inline I32x8 zero_i32() {
    return {};
}

inline I32x8 add_products(const I32x8& sum, const I16x16& a, const I16x16& b) {
    I32x8 out;
    for (std::size_t i = 0; i < 8; ++i) {
        out.at[i] = sum.at[i] + a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1];
    }
    return out;
}

inline F32x8 zero_f32() {
    return {};
}

inline F32x8 add(const F32x8& a, const F32x8& b) {
    F32x8 out;
    for (std::size_t i = 0; i < 8; ++i) out.at[i] = a.at[i] + b.at[i];
    return out;
}

inline F32x8 mul_add(const F32x8& a, const F32x8& b, const F32x8& sum) {
    F32x8 out;
    for (std::size_t i = 0; i < 8; ++i) out.at[i] = a.at[i] * b.at[i] + sum.at[i];
    return out;
}

inline F32x8 scale_add(const I32x8& v, float scale, const F32x8& sum) {
    F32x8 out;
    for (std::size_t i = 0; i < 8; ++i) out.at[i] = static_cast<float>(v.at[i]) * scale + sum.at[i];
    return out;
}

inline float sum_lanes(const F32x8& v) {
    return ((v.at[0] + v.at[4]) + (v.at[2] + v.at[6])) + ((v.at[1] + v.at[5]) + (v.at[3] + v.at[7]));
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
