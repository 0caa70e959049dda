// The dot products of one weight row with kActs activation rows, per weight format, on the operations of
// dot_lanes-inl.h. Included once per Highway target.
//
// Each kernel decodes a piece of the weight row once and meets all kActs rows with it. What happens to one
// activation row is the same sequence of operations whatever kActs is, so its result has the same bits.
#if defined(DS4_DOT_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_KERNELS_INL_H
#undef DS4_DOT_KERNELS_INL_H
#else
#define DS4_DOT_KERNELS_INL_H
#endif

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "backend/cpu/dot_activation.h"
#include "hwy/highway.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

// Prepared activation rows.
template <std::size_t kActs>
using Acts = std::array<const std::byte*, kActs>;

inline const std::int8_t* codes_of(const std::byte* act) {
    return reinterpret_cast<const std::int8_t*>(act);
}
inline const std::uint8_t* bytes_of(const std::byte* w) {
    return reinterpret_cast<const std::uint8_t*>(w);
}

// ---- F32, F16, BF16 with f32 activations

template <std::size_t kBytes, F32x8 (*load_weights)(const std::byte*)>
struct DotFloat {
    // Independent sums that keep the multiply-add units busy: value i goes to sum i / 8 % kSums.
    static constexpr std::size_t kSums = 4;

    template <std::size_t kActs>
    static HWY_INLINE void run(const std::byte* w, std::size_t n, const Acts<kActs>& acts, float* y) {
        F32x8 sums[kActs][kSums];
        for (auto& row : sums) {
            for (auto& sum : row) sum = zero_f32();
        }
        std::size_t i = 0;
        for (; i + 8 * kSums <= n; i += 8 * kSums) {
            for (std::size_t s = 0; s < kSums; ++s) {
                const F32x8 weights = load_weights(w + (i + 8 * s) * kBytes);
                for (std::size_t r = 0; r < kActs; ++r) {
                    sums[r][s] =
                        mul_add(weights, load_f32(acts[r] + (i + 8 * s) * sizeof(float)), sums[r][s]);
                }
            }
        }
        for (; i < n; i += 8) {
            const std::size_t count = n - i < 8 ? n - i : 8;
            const F32x8 weights = load_weights(padded<kBytes>(w, i, count).data());
            for (std::size_t r = 0; r < kActs; ++r) {
                const F32x8 values = load_f32(padded<sizeof(float)>(acts[r], i, count).data());
                sums[r][0] = mul_add(weights, values, sums[r][0]);
            }
        }
        for (std::size_t r = 0; r < kActs; ++r) {
            y[r] = sum_lanes(add(add(sums[r][0], sums[r][1]), add(sums[r][2], sums[r][3])));
        }
    }

  private:
    // Elements [begin, begin + count) of a row, with zeroes up to 8: nothing behind a row is read.
    template <std::size_t kElemBytes>
    static std::array<std::byte, 8 * kElemBytes> padded(const std::byte* row, std::size_t begin,
                                                        std::size_t count) {
        std::array<std::byte, 8 * kElemBytes> out{};
        std::memcpy(out.data(), row + begin * kElemBytes, count * kElemBytes);
        return out;
    }
};

using DotF32 = DotFloat<4, load_f32>;
using DotF16 = DotFloat<2, load_f16>;
using DotBf16 = DotFloat<2, load_bf16>;

// ---- Q8_0 and MXFP4 with q8_0 activations

struct Q8_0Block {
    static constexpr std::size_t kBytes = sizeof(quant::BlockQ8_0);

    static HWY_INLINE float scale(const std::byte* block) { return load_scale_f16(block); }

    static HWY_INLINE I8x32 codes(const std::byte* block) {
        return load_i8(codes_of(block) + offsetof(quant::BlockQ8_0, q));
    }
};

// Half of an E8M0 scale, 2^(e - 128), by e: MXFP4 is multiplied with doubled values, which are integers.
inline constexpr auto kHalfScales = [] {
    std::array<float, 256> scales{};
    for (std::uint32_t e = 0; e < 255; ++e)
        scales[e] = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    scales[255] = std::numeric_limits<float>::quiet_NaN();
    return scales;
}();

struct Mxfp4Block {
    static constexpr std::size_t kBytes = sizeof(quant::BlockMxfp4);

    static HWY_INLINE float scale(const std::byte* block) { return kHalfScales[bytes_of(block)[0]]; }

    static HWY_INLINE I8x32 codes(const std::byte* block) {
        alignas(16) static constexpr std::int8_t kDoubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                                 0, -1, -2, -3, -4, -6, -8, -12};
        return lookup(kDoubled, load_nibbles(bytes_of(block) + offsetof(quant::BlockMxfp4, q)));
    }
};

template <typename Block>
struct DotQ8 {
    template <std::size_t kActs>
    static HWY_INLINE void run(const std::byte* w, std::size_t n, const Acts<kActs>& acts, float* y) {
        const std::size_t n_blocks = n / kQ8_0Block;
        F32x8 sums[kActs][2];  // of the even and of the odd blocks: two chains of additions
        for (auto& row : sums) row[0] = row[1] = zero_f32();
        std::size_t b = 0;
        for (; b + 2 <= n_blocks; b += 2) {
            add_block(w, n, b, acts, sums, 0);
            add_block(w, n, b + 1, acts, sums, 1);
        }
        if (b < n_blocks) add_block(w, n, b, acts, sums, 0);
        for (std::size_t r = 0; r < kActs; ++r) y[r] = sum_lanes(add(sums[r][0], sums[r][1]));
    }

  private:
    template <std::size_t kActs>
    static HWY_INLINE void add_block(const std::byte* w, std::size_t n, std::size_t b,
                                     const Acts<kActs>& acts, F32x8 (&sums)[kActs][2], std::size_t chain) {
        const std::byte* block = w + b * Block::kBytes;
        const float weight_scale = Block::scale(block);
        const I8x32 codes = Block::codes(block);
        const U8x32 magnitudes = abs(codes);
        const I16x16 ones = broadcast_i16(1);
        for (std::size_t r = 0; r < kActs; ++r) {
            const I8x32 act = load_i8(codes_of(acts[r]) + b * kQ8_0Block);
            const I16x16 pairs = pair_products(magnitudes, apply_signs(act, codes));
            const float act_scale = quant::load<float>(acts[r] + q8_0_scales_offset(n) + b * sizeof(float));
            const I32x8 dot = add_products(zero_i32(), pairs, ones);
            sums[r][chain] = scale_add(dot, weight_scale * act_scale, sums[r][chain]);
        }
    }
};

// ---- Q2_K, Q4_K and IQ2_XXS with q8_k activations: integers are summed over a block of 256

template <std::size_t kActs>
HWY_INLINE float block_scale(const Acts<kActs>& acts, std::size_t r, std::size_t n, std::size_t b) {
    return quant::load<float>(acts[r] + q8_k_scales_offset(n) + b * sizeof(float));
}

// sum + the products of the sub-block minima (16) with the activation's sums of 16 codes.
HWY_INLINE I32x8 minima_product(const I16x16& minima, const std::byte* act, std::size_t n, std::size_t b) {
    const std::byte* sums = act + q8_k_sums_offset(n) + b * (kQ8KBlock / kQ8KSum) * sizeof(std::int16_t);
    return add_products(zero_i32(), minima, load_i16(sums));
}

struct DotQ2K {
    template <std::size_t kActs>
    static HWY_INLINE void run(const std::byte* w, std::size_t n, const Acts<kActs>& acts, float* y) {
        F32x8 sums[kActs];
        for (auto& sum : sums) sum = zero_f32();
        for (std::size_t b = 0; b < n / kQ8KBlock; ++b, w += sizeof(quant::BlockQ2K))
            add_block(w, n, b, acts, sums);
        for (std::size_t r = 0; r < kActs; ++r) y[r] = sum_lanes(sums[r]);
    }

  private:
    template <std::size_t kActs>
    static HWY_INLINE void add_block(const std::byte* block, std::size_t n, std::size_t b,
                                     const Acts<kActs>& acts, F32x8 (&sums)[kActs]) {
        const std::uint8_t* scales = bytes_of(block) + offsetof(quant::BlockQ2K, scales);
        const std::uint8_t* q = bytes_of(block) + offsetof(quant::BlockQ2K, q);
        I32x8 dots[kActs];
        for (auto& dot : dots) dot = zero_i32();
        for (std::size_t half = 0; half < 2; ++half) {
            const U8x32 planes = load_u8(q + 32 * half);
            const Acts<kActs> codes = offset(acts, b * kQ8KBlock + 128 * half);
            add_plane<0>(planes, scales + 8 * half, codes, dots);
            add_plane<1>(planes, scales + 8 * half, codes, dots);
            add_plane<2>(planes, scales + 8 * half, codes, dots);
            add_plane<3>(planes, scales + 8 * half, codes, dots);
        }
        std::int16_t minima[16];
        for (std::size_t j = 0; j < 16; ++j) minima[j] = static_cast<std::int16_t>(scales[j] >> 4);
        const I16x16 packed_minima = load_i16(reinterpret_cast<const std::byte*>(minima));
        const float d = load_scale_f16(block + offsetof(quant::BlockQ2K, d));
        const float dmin = load_scale_f16(block + offsetof(quant::BlockQ2K, dmin));
        for (std::size_t r = 0; r < kActs; ++r) {
            const float act_scale = block_scale(acts, r, n, b);
            sums[r] = scale_add(dots[r], d * act_scale, sums[r]);
            sums[r] = scale_add(minima_product(packed_minima, acts[r], n, b), -dmin * act_scale, sums[r]);
        }
    }

    // 32 values, two sub-blocks, of bits 2 * kPlane and 2 * kPlane + 1.
    template <int kPlane, std::size_t kActs>
    static HWY_INLINE void add_plane(const U8x32& planes, const std::uint8_t* scales,
                                     const Acts<kActs>& codes, I32x8 (&dots)[kActs]) {
        const U8x32 values = bit_field<2 * kPlane, 3>(planes);
        const I16x16 sub_scales = halves_i16(scales[2 * kPlane] & 15, scales[2 * kPlane + 1] & 15);
        for (std::size_t r = 0; r < kActs; ++r) {
            const I8x32 act = load_i8(codes_of(codes[r]) + 32 * kPlane);
            dots[r] = add_products(dots[r], pair_products(values, act), sub_scales);
        }
    }

    template <std::size_t kActs>
    static HWY_INLINE Acts<kActs> offset(Acts<kActs> acts, std::size_t bytes) {
        for (auto& act : acts) act += bytes;
        return acts;
    }
};

struct DotQ4K {
    template <std::size_t kActs>
    static HWY_INLINE void run(const std::byte* w, std::size_t n, const Acts<kActs>& acts, float* y) {
        F32x8 sums[kActs];
        for (auto& sum : sums) sum = zero_f32();
        for (std::size_t b = 0; b < n / kQ8KBlock; ++b, w += sizeof(quant::BlockQ4K))
            add_block(w, n, b, acts, sums);
        for (std::size_t r = 0; r < kActs; ++r) y[r] = sum_lanes(sums[r]);
    }

  private:
    template <std::size_t kActs>
    static HWY_INLINE void add_block(const std::byte* block, std::size_t n, std::size_t b,
                                     const Acts<kActs>& acts, F32x8 (&sums)[kActs]) {
        const quant::ScalesQ4K s = quant::unpack_scales(block + offsetof(quant::BlockQ4K, scales));
        const std::uint8_t* q = bytes_of(block) + offsetof(quant::BlockQ4K, q);
        I32x8 dots[kActs];
        for (auto& dot : dots) dot = zero_i32();
        for (std::size_t j = 0; j < 8; j += 2) {  // two sub-blocks share their bytes
            const U8x32 nibbles = load_u8(q + 16 * j);
            const std::size_t at = b * kQ8KBlock + 32 * j;
            add_sub_block(bit_field<0, 15>(nibbles), s.scale[j], acts, at, dots);
            add_sub_block(bit_field<4, 15>(nibbles), s.scale[j + 1], acts, at + 32, dots);
        }
        const I16x16 minima = load_twice_u8(s.minimum);  // a sub-block has two sums of 16 codes
        const float d = load_scale_f16(block + offsetof(quant::BlockQ4K, d));
        const float dmin = load_scale_f16(block + offsetof(quant::BlockQ4K, dmin));
        for (std::size_t r = 0; r < kActs; ++r) {
            const float act_scale = block_scale(acts, r, n, b);
            sums[r] = scale_add(dots[r], d * act_scale, sums[r]);
            sums[r] = scale_add(minima_product(minima, acts[r], n, b), -dmin * act_scale, sums[r]);
        }
    }

    template <std::size_t kActs>
    static HWY_INLINE void add_sub_block(const U8x32& values, int scale, const Acts<kActs>& acts,
                                         std::size_t at, I32x8 (&dots)[kActs]) {
        const I16x16 sub_scale = broadcast_i16(scale);
        for (std::size_t r = 0; r < kActs; ++r) {
            const I8x32 act = load_i8(codes_of(acts[r]) + at);
            dots[r] = add_products(dots[r], pair_products(values, act), sub_scale);
        }
    }
};

struct DotIQ2XXS {
    template <std::size_t kActs>
    static HWY_INLINE void run(const std::byte* w, std::size_t n, const Acts<kActs>& acts, float* y) {
        F32x8 sums[kActs];
        for (auto& sum : sums) sum = zero_f32();
        for (std::size_t b = 0; b < n / kQ8KBlock; ++b, w += sizeof(quant::BlockIQ2XXS)) {
            add_block(w, n, b, acts, sums);
        }
        for (std::size_t r = 0; r < kActs; ++r) y[r] = sum_lanes(sums[r]);
    }

  private:
    template <std::size_t kActs>
    static HWY_INLINE void add_block(const std::byte* block, std::size_t n, std::size_t b,
                                     const Acts<kActs>& acts, F32x8 (&sums)[kActs]) {
        const std::byte* packed = block + sizeof(std::uint16_t);
        std::uint32_t signs[8], scales[8];  // per group
        unpack_iq2xxs(packed, signs, scales);
        I32x8 dots[kActs];
        for (auto& dot : dots) dot = zero_i32();
        for (std::size_t g = 0; g < 8; ++g) {
            const std::uint8_t* rows = bytes_of(packed) + g * sizeof(quant::GroupIQ2XXS);
            const U8x32 magnitudes = load_table_rows(quant::kIq2xxsGrid.data(), rows);
            const I8x32 group_signs = load_signs(reinterpret_cast<const std::uint8_t*>(&signs[g]));
            const I16x16 scale = broadcast_i16(static_cast<int>(scales[g]));
            for (std::size_t r = 0; r < kActs; ++r) {
                const I8x32 act = load_i8(codes_of(acts[r]) + b * kQ8KBlock + 32 * g);
                dots[r] =
                    add_products(dots[r], pair_products(magnitudes, apply_signs(act, group_signs)), scale);
            }
        }
        const float d = load_scale_f16(block) * 0.125f;
        for (std::size_t r = 0; r < kActs; ++r)
            sums[r] = scale_add(dots[r], d * block_scale(acts, r, n, b), sums[r]);
    }
};

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
