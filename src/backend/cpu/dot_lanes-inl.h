// The vector operations of the dot products, on bundles of a fixed 32 bytes: one AVX2 register or two of SSE
// or NEON. With a fixed size every instruction set adds in the same order, and a bundle is one block of Q8_0
// or MXFP4 and one sub-block of Q4_K. Included once per Highway target; dot_lanes_scalar-inl.h is the same
// without vectors.
#if defined(DS4_DOT_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_LANES_INL_H
#undef DS4_DOT_LANES_INL_H
#else
#define DS4_DOT_LANES_INL_H
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "quant/float_bits.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D8 = hn::CappedTag<std::int8_t, 32>;
using DU8 = hn::RebindToUnsigned<D8>;
using D16 = hn::Repartition<std::int16_t, D8>;
using D32 = hn::Repartition<std::int32_t, D8>;
using DF = hn::RebindToFloat<D32>;
using DHalf16 = hn::Rebind<std::uint16_t, DF>;  // the 16-bit floats that fill a DF when widened

inline constexpr std::size_t kParts = 32 / hn::MaxLanes(D8());
inline constexpr std::size_t kBytes = 32 / kParts;  // per part

template <typename D>
struct Bundle {
    // Written out because an implicit constructor is not compiled for the target. Leaves the parts unset.
    HWY_INLINE Bundle() {}  // NOLINT(modernize-use-equals-default)

    hn::Vec<D> part[kParts];
};
using I8x32 = Bundle<D8>;
using U8x32 = Bundle<DU8>;
using I16x16 = Bundle<D16>;
using I32x8 = Bundle<D32>;
using F32x8 = Bundle<DF>;

// A bundle of two vectors of 16 bytes.
template <typename D, typename V>
HWY_INLINE Bundle<D> from_halves(const V& low, const V& high) {
    Bundle<D> v;
    if constexpr (kParts == 1) {
        v.part[0] = hn::Combine(D(), high, low);
    } else {
        v.part[0] = low;
        v.part[1] = high;
    }
    return v;
}

// ---- Loads, from any address

HWY_INLINE U8x32 load_u8(const std::uint8_t* p) {
    U8x32 v;
    for (std::size_t k = 0; k < kParts; ++k) v.part[k] = hn::LoadU(DU8(), p + k * kBytes);
    return v;
}

HWY_INLINE I8x32 load_i8(const std::int8_t* p) {
    I8x32 v;
    for (std::size_t k = 0; k < kParts; ++k) v.part[k] = hn::LoadU(D8(), p + k * kBytes);
    return v;
}

HWY_INLINE I16x16 load_i16(const std::byte* p) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);
    I16x16 v;
    for (std::size_t k = 0; k < kParts; ++k) {
        v.part[k] = hn::BitCast(D16(), hn::LoadU(DU8(), bytes + k * kBytes));
    }
    return v;
}

HWY_INLINE F32x8 load_f32(const std::byte* p) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);
    F32x8 v;
    for (std::size_t k = 0; k < kParts; ++k) {
        v.part[k] = hn::BitCast(DF(), hn::LoadU(DU8(), bytes + k * kBytes));
    }
    return v;
}

// Eight 16-bit floats; F is hwy::float16_t or hwy::bfloat16_t.
template <typename F>
HWY_INLINE F32x8 load_half_floats(const std::byte* p) {
    const hn::Repartition<std::uint8_t, DHalf16> d_bytes;
    const hn::Rebind<F, DF> d_half;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);
    F32x8 v;
    for (std::size_t k = 0; k < kParts; ++k) {
        const auto half = hn::BitCast(DHalf16(), hn::LoadU(d_bytes, bytes + k * kBytes / 2));
        v.part[k] = hn::PromoteTo(DF(), hn::BitCast(d_half, half));
    }
    return v;
}

HWY_INLINE F32x8 load_f16(const std::byte* p) {
    return load_half_floats<hwy::float16_t>(p);
}
HWY_INLINE F32x8 load_bf16(const std::byte* p) {
    return load_half_floats<hwy::bfloat16_t>(p);
}

// One f16, a block's scale.
HWY_INLINE float load_scale_f16(const std::byte* p) {
    const auto bits = quant::load<std::uint16_t>(p);
#if HWY_TARGET <= HWY_AVX2  // F16C
    return _cvtsh_ss(bits);
#else
    return quant::f16_to_f32(bits);
#endif
}

// 16 bytes: their low nibbles, then their high nibbles.
HWY_INLINE U8x32 load_nibbles(const std::uint8_t* p) {
    const hn::CappedTag<std::uint8_t, 16> d16;
    const auto bytes = hn::LoadU(d16, p);
    const auto low = hn::And(bytes, hn::Set(d16, std::uint8_t{15}));
    const auto high = hn::ShiftRight<4>(bytes);
    return from_halves<DU8>(low, high);
}

// Four rows of a table of 8-byte rows.
HWY_INLINE U8x32 load_table_rows(const std::uint64_t* table, const std::uint8_t* rows) {
    const hn::CappedTag<std::uint64_t, 1> d1;
    const hn::CappedTag<std::uint64_t, 2> d2;
    const auto low = hn::Combine(d2, hn::Load(d1, table + rows[1]), hn::Load(d1, table + rows[0]));
    const auto high = hn::Combine(d2, hn::Load(d1, table + rows[3]), hn::Load(d1, table + rows[2]));
    const hn::CappedTag<std::uint8_t, 16> d16;
    return from_halves<DU8>(hn::BitCast(d16, low), hn::BitCast(d16, high));
}

// 8 bytes, each widened to two neighbours.
HWY_INLINE I16x16 load_twice_u8(const std::uint8_t* p) {
    const hn::RebindToUnsigned<D32> du32;
    const hn::Rebind<std::uint8_t, D32> d_bytes;
    I16x16 v;
    for (std::size_t k = 0; k < kParts; ++k) {
        const auto words = hn::PromoteTo(du32, hn::LoadU(d_bytes, p + k * kBytes / 4));
        v.part[k] = hn::BitCast(D16(), hn::Or(words, hn::ShiftLeft<16>(words)));
    }
    return v;
}

// -1 where the bit is set, else 1; bit i of the 32 for element i.
HWY_INLINE I8x32 load_signs(const std::uint8_t* bits) {
    I8x32 v;
    for (std::size_t k = 0; k < kParts; ++k) {
        const auto negative = hn::VecFromMask(D8(), hn::LoadMaskBits(D8(), bits + k * kBytes / 8));
        v.part[k] = hn::Or(negative, hn::Set(D8(), std::int8_t{1}));
    }
    return v;
}

// The second words of the 8 groups of an IQ2_XXS block: to signs, bit i of a word for value i of the group,
// and to scale numerators 2 * code + 1. model.md 14.4
HWY_INLINE void unpack_iq2xxs(const std::byte* groups, std::uint32_t* signs, std::uint32_t* scales) {
    const hn::RebindToUnsigned<D32> du32;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(groups);
    for (std::size_t k = 0; k < kParts; ++k) {
        const auto low = hn::BitCast(du32, hn::LoadU(DU8(), bytes + 2 * k * kBytes));
        const auto high = hn::BitCast(du32, hn::LoadU(DU8(), bytes + (2 * k + 1) * kBytes));
        const auto words = hn::ConcatOdd(du32, high, low);
        const auto doubled = hn::ShiftLeft<1>(hn::ShiftRight<28>(words));
        hn::StoreU(hn::Or(doubled, hn::Set(du32, 1u)), du32, scales + k * kBytes / 4);
        // The four 7-bit indices go to bytes; bit 7 of each becomes the parity of the others.
        const auto index = hn::Or(hn::Or(hn::And(words, hn::Set(du32, 0x7fu)),
                                         hn::And(hn::ShiftLeft<1>(words), hn::Set(du32, 0x7f00u))),
                                  hn::Or(hn::And(hn::ShiftLeft<2>(words), hn::Set(du32, 0x7f0000u)),
                                         hn::And(hn::ShiftLeft<3>(words), hn::Set(du32, 0x7f000000u))));
        auto parity = hn::Xor(index, hn::ShiftLeft<4>(index));
        parity = hn::Xor(parity, hn::ShiftLeft<2>(parity));
        parity = hn::Xor(parity, hn::ShiftLeft<1>(parity));
        const auto odd = hn::And(parity, hn::Set(du32, 0x80808080u));
        hn::StoreU(hn::Or(index, odd), du32, signs + k * kBytes / 4);
    }
}

// ---- Codes

// (v >> kShift) & kMask in each byte.
template <int kShift, std::uint8_t kMask>
HWY_INLINE U8x32 bit_field(const U8x32& v) {
    U8x32 out;
    for (std::size_t k = 0; k < kParts; ++k) {
        // Bits of the neighbour that a shift of 16-bit lanes brings in are outside the mask.
        const auto shifted = hn::BitCast(DU8(), hn::ShiftRight<kShift>(hn::BitCast(D16(), v.part[k])));
        out.part[k] = hn::And(shifted, hn::Set(DU8(), kMask));
    }
    return out;
}

// table[code], for codes 0..15.
HWY_INLINE I8x32 lookup(const std::int8_t* table, const U8x32& codes) {
    const auto entries = hn::LoadDup128(D8(), table);
    I8x32 out;
    for (std::size_t k = 0; k < kParts; ++k) {
        out.part[k] = hn::TableLookupBytes(entries, hn::BitCast(D8(), codes.part[k]));
    }
    return out;
}

// |v|; |-128| is 128.
HWY_INLINE U8x32 abs(const I8x32& v) {
    U8x32 out;
    for (std::size_t k = 0; k < kParts; ++k) out.part[k] = hn::BitCast(DU8(), hn::Abs(v.part[k]));
    return out;
}

// v with its sign turned where `signs` is negative, 0 or v where it is 0; v is not -128.
HWY_INLINE I8x32 apply_signs(const I8x32& v, const I8x32& signs) {
    I8x32 out;
    for (std::size_t k = 0; k < kParts; ++k) {
#if HWY_TARGET <= HWY_AVX2
        out.part[k] = hn::Vec<D8>{_mm256_sign_epi8(v.part[k].raw, signs.part[k].raw)};
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
        out.part[k] = hn::Vec<D8>{_mm_sign_epi8(v.part[k].raw, signs.part[k].raw)};
#else
        const auto negative = hn::BroadcastSignBit(signs.part[k]);
        out.part[k] = hn::Sub(hn::Xor(v.part[k], negative), negative);
#endif
    }
    return out;
}

// ---- Integer products

// Sums of the products of neighbours: u[2i] * v[2i] + u[2i + 1] * v[2i + 1], with u <= 128 and |v| <= 127, so
// that they fit 16 bits.
HWY_INLINE I16x16 pair_products(const U8x32& u, const I8x32& v) {
    I16x16 out;
    for (std::size_t k = 0; k < kParts; ++k) {
#if HWY_TARGET <= HWY_AVX2
        out.part[k] = hn::Vec<D16>{_mm256_maddubs_epi16(u.part[k].raw, v.part[k].raw)};
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
        out.part[k] = hn::Vec<D16>{_mm_maddubs_epi16(u.part[k].raw, v.part[k].raw)};
#else
        const hn::RebindToUnsigned<D16> du16;
        const auto u16 = hn::BitCast(du16, u.part[k]);
        const auto v16 = hn::BitCast(D16(), v.part[k]);
        const auto u_even = hn::BitCast(D16(), hn::And(u16, hn::Set(du16, std::uint16_t{255})));
        const auto u_odd = hn::BitCast(D16(), hn::ShiftRight<8>(u16));
        const auto v_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(v16));
        const auto v_odd = hn::ShiftRight<8>(v16);
        out.part[k] = hn::Add(hn::Mul(u_even, v_even), hn::Mul(u_odd, v_odd));
#endif
    }
    return out;
}

HWY_INLINE I16x16 broadcast_i16(int value) {
    I16x16 v;
    for (std::size_t k = 0; k < kParts; ++k) v.part[k] = hn::Set(D16(), static_cast<std::int16_t>(value));
    return v;
}

// `low` in elements 0..7, `high` in 8..15.
HWY_INLINE I16x16 halves_i16(int low, int high) {
    const hn::CappedTag<std::int16_t, 8> d8;
    return from_halves<D16>(hn::Set(d8, static_cast<std::int16_t>(low)),
                            hn::Set(d8, static_cast<std::int16_t>(high)));
}

HWY_INLINE I32x8 zero_i32() {
    I32x8 v;
    for (std::size_t k = 0; k < kParts; ++k) v.part[k] = hn::Zero(D32());
    return v;
}

// sum + a * b with products of 16-bit neighbours added; exact, and which neighbours share a lane does not
// matter as long as they are of the same half of the bundle.
HWY_INLINE I32x8 add_products(const I32x8& sum, const I16x16& a, const I16x16& b) {
    I32x8 out;
    for (std::size_t k = 0; k < kParts; ++k) {
        auto more = hn::Zero(D32());
        const auto some = hn::ReorderWidenMulAccumulate(D32(), a.part[k], b.part[k], sum.part[k], more);
        out.part[k] = hn::Add(some, more);
    }
    return out;
}

// ---- Floats

HWY_INLINE F32x8 zero_f32() {
    F32x8 v;
    for (std::size_t k = 0; k < kParts; ++k) v.part[k] = hn::Zero(DF());
    return v;
}

HWY_INLINE F32x8 add(const F32x8& a, const F32x8& b) {
    F32x8 out;
    for (std::size_t k = 0; k < kParts; ++k) out.part[k] = hn::Add(a.part[k], b.part[k]);
    return out;
}

// a * b + sum
HWY_INLINE F32x8 mul_add(const F32x8& a, const F32x8& b, const F32x8& sum) {
    F32x8 out;
    for (std::size_t k = 0; k < kParts; ++k) out.part[k] = hn::MulAdd(a.part[k], b.part[k], sum.part[k]);
    return out;
}

// v * scale + sum
HWY_INLINE F32x8 scale_add(const I32x8& v, float scale, const F32x8& sum) {
    F32x8 out;
    for (std::size_t k = 0; k < kParts; ++k) {
        out.part[k] = hn::MulAdd(hn::ConvertTo(DF(), v.part[k]), hn::Set(DF(), scale), sum.part[k]);
    }
    return out;
}

HWY_INLINE float sum_lanes(const F32x8& v) {
    auto total = v.part[0];
    for (std::size_t k = 1; k < kParts; ++k) total = hn::Add(total, v.part[k]);
    return hn::GetLane(hn::SumOfLanes(DF(), total));
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
