// The decoders of the weight formats for Highway's targets: a part of 512 values of a row, as they lie in the
// file, to the registers of dot_chunk.h.
//
// A part is made of units of four groups, one unit per 16 bytes of a register: unit u of a chunk holds groups
// 4u .. 4u + 3. A decoder fills group[r][h] with half h (16 values) of group r of each of the part's units;
// units_to_lanes does the rest for all formats.
#if defined(DS4_DOT_FORMATS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_FORMATS_INL_H
#undef DS4_DOT_FORMATS_INL_H
#else
#define DS4_DOT_FORMATS_INL_H
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

DS4_KERNELS_BEGIN

// ---- Float formats: as many values as a part has lanes

struct FormatF32 {
    static constexpr std::size_t kBytes = 4;
    static HWY_INLINE F32 load(const std::byte* p) { return load_f32_bytes(p); }
};

// kBits is hwy::float16_t or hwy::bfloat16_t.
template <typename Half>
struct FormatHalf {
    static constexpr std::size_t kBytes = 2;
    static HWY_INLINE F32 load(const std::byte* p) {
        const hn::Rebind<std::uint16_t, DF> d16;
        const hn::Repartition<std::uint8_t, decltype(d16)> d8;
        const hn::Rebind<Half, DF> d_half;
        const auto bits = hn::BitCast(d16, hn::LoadU(d8, reinterpret_cast<const std::uint8_t*>(p)));
        return hn::PromoteTo(DF(), hn::BitCast(d_half, bits));
    }
};
using FormatF16 = FormatHalf<hwy::float16_t>;
using FormatBf16 = FormatHalf<hwy::bfloat16_t>;

// ---- Helpers

inline constexpr std::size_t kPartUnits = kPartLanes / 4;
using D8x16 = hn::CappedTag<std::uint8_t, 16>;
using DU16 = hn::RebindToUnsigned<D16>;
using DU32 = hn::RebindToUnsigned<D32>;
using U8 = hn::Vec<DU8>;

// The 16 bytes unit(q) for each unit q of a part, side by side.
template <class Unit>
HWY_INLINE U8 combine_units(const Unit& unit) {
    if constexpr (kPartUnits == 1) {
        return unit(0);
    } else if constexpr (kPartUnits == 2) {
        return hn::Combine(DU8(), unit(1), unit(0));
    } else {
        const hn::CappedTag<std::uint8_t, 32> d32;
        return hn::Combine(DU8(), hn::Combine(d32, unit(3), unit(2)), hn::Combine(d32, unit(1), unit(0)));
    }
}

// The 16 bytes at at(u) for each unit u of part p. at: std::size_t -> const std::byte*
template <class At>
HWY_INLINE U8 load_units(std::size_t p, const At& at) {
    return combine_units([&](std::size_t q) HWY_ATTR {
        return hn::LoadU(D8x16(), reinterpret_cast<const std::uint8_t*>(at(p * kPartUnits + q)));
    });
}

// (bytes >> shift) & mask. Bits of the neighbour that a shift of 16-bit lanes brings in are outside the mask.
HWY_INLINE U8 bit_field(U8 bytes, int shift, std::uint8_t mask) {
    const auto shifted = hn::ShiftRightSame(hn::BitCast(DU16(), bytes), shift);
    return hn::And(hn::BitCast(DU8(), shifted), hn::Set(DU8(), mask));
}

// From halves of groups to one group per lane. Words (j, 8 + j, 16 + j, 24 + j) first, then, within every 16
// bytes, a 4 x 4 transposition of them.
HWY_INLINE void units_to_lanes(const U8 (&group)[4][2], Codes (&code)[8]) {
    using DU64 = hn::Repartition<std::uint64_t, D8>;
    alignas(16) static constexpr std::uint8_t kHalfWords[16] = {0, 8,  1, 9,  2, 10, 3, 11,
                                                                4, 12, 5, 13, 6, 14, 7, 15};
    const U8 half_words = hn::LoadDup128(DU8(), kHalfWords);
    hn::Vec<DU32> words[4][2];
    for (std::size_t r = 0; r < 4; ++r) {
        const auto low = hn::BitCast(DU16(), hn::TableLookupBytes(group[r][0], half_words));
        const auto high = hn::BitCast(DU16(), hn::TableLookupBytes(group[r][1], half_words));
        words[r][0] = hn::BitCast(DU32(), hn::InterleaveLower(DU16(), low, high));
        words[r][1] = hn::BitCast(DU32(), hn::InterleaveUpper(DU16(), low, high));
    }
    for (std::size_t h = 0; h < 2; ++h) {
        const auto a = hn::BitCast(DU64(), hn::InterleaveLower(DU32(), words[0][h], words[1][h]));
        const auto b = hn::BitCast(DU64(), hn::InterleaveUpper(DU32(), words[0][h], words[1][h]));
        const auto c = hn::BitCast(DU64(), hn::InterleaveLower(DU32(), words[2][h], words[3][h]));
        const auto d = hn::BitCast(DU64(), hn::InterleaveUpper(DU32(), words[2][h], words[3][h]));
        code[4 * h] = hn::BitCast(D8(), hn::InterleaveLower(DU64(), a, c));
        code[4 * h + 1] = hn::BitCast(D8(), hn::InterleaveUpper(DU64(), a, c));
        code[4 * h + 2] = hn::BitCast(D8(), hn::InterleaveLower(DU64(), b, d));
        code[4 * h + 3] = hn::BitCast(D8(), hn::InterleaveUpper(DU64(), b, d));
    }
}

HWY_INLINE float load_f16(const std::byte* p) {
    const auto bits = quant::load<std::uint16_t>(p);
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86  // F16C
    return _cvtsh_ss(bits);
#else
    return quant::f16_to_f32(bits);
#endif
}

// of(g) for each lane's group g. of: std::size_t -> float
template <class Of>
HWY_INLINE F32 lanes_of(std::size_t p, const Of& of) {
    alignas(kRegister) float value[kPartLanes];
    for (std::size_t i = 0; i < kPartLanes; ++i) value[i] = of(p * kPartLanes + i);
    return hn::Load(DF(), value);
}

// The f16 at `at` of the block of 256 that each lane belongs to.
HWY_INLINE F32 load_block_scales(const std::byte* at, std::size_t block_bytes, std::size_t p) {
    if constexpr (kParts == 1) {
        const hn::Half<DF> d;
        return hn::Combine(DF(), hn::Set(d, load_f16(at + block_bytes)), hn::Set(d, load_f16(at)));
    } else {
        return hn::Set(DF(), load_f16(at + 2 * p / kParts * block_bytes));
    }
}

// ---- Q8_0

struct FormatQ8_0 {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 32, kBlockBytes = sizeof(quant::BlockQ8_0);

    static HWY_INLINE void decode(const std::byte* w, std::size_t p, WeightPart<false>& out) {
        U8 group[4][2];
        for (std::size_t r = 0; r < 4; ++r) {
            for (std::size_t h = 0; h < 2; ++h) {
                const std::byte* q = w + r * kBlockBytes + offsetof(quant::BlockQ8_0, q) + 16 * h;
                group[r][h] = load_units(p, [=](std::size_t u) { return q + 4 * u * kBlockBytes; });
            }
        }
        units_to_lanes(group, out.code);
        out.scale = lanes_of(p, [=](std::size_t g) HWY_ATTR { return load_f16(w + g * kBlockBytes); });
    }
};

// ---- MXFP4

struct FormatMxfp4 {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 32, kBlockBytes = sizeof(quant::BlockMxfp4);

    static HWY_INLINE void decode(const std::byte* w, std::size_t p, WeightPart<false>& out) {
        alignas(16) static constexpr std::uint8_t kDoubled[16] = {0, 1,   2,   3,   4,   6,   8,   12,
                                                                  0, 255, 254, 253, 252, 250, 248, 244};
        const U8 table = hn::LoadDup128(DU8(), kDoubled);
        U8 group[4][2];
        for (std::size_t r = 0; r < 4; ++r) {
            const std::byte* q = w + r * kBlockBytes + offsetof(quant::BlockMxfp4, q);
            const U8 bytes = load_units(p, [=](std::size_t u) { return q + 4 * u * kBlockBytes; });
            group[r][0] = hn::TableLookupBytes(table, bit_field(bytes, 0, 15));
            group[r][1] = hn::TableLookupBytes(table, bit_field(bytes, 4, 15));
        }
        units_to_lanes(group, out.code);
        out.scale = lanes_of(
            p, [=](std::size_t g) { return kHalfScales[static_cast<std::size_t>(w[g * kBlockBytes])]; });
    }
};

// ---- Q2_K

struct FormatQ2K {
    static constexpr bool kAffine = true;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockQ2K);

    // Half a block is a unit: 32 bytes with the codes of its four groups in four planes, eight sub-blocks.
    static HWY_INLINE void decode(const std::byte* w, std::size_t p, WeightPart<true>& out) {
        const I16 sub_blocks = load_sub_blocks(w, p);
        const I16 scales = hn::And(sub_blocks, hn::Set(D16(), std::int16_t{15}));
        const std::byte* q = w + offsetof(quant::BlockQ2K, q);
        U8 planes[2];
        for (std::size_t h = 0; h < 2; ++h) {
            planes[h] =
                load_units(p, [=](std::size_t u) { return q + u / 2 * kBlockBytes + u % 2 * 32 + 16 * h; });
        }
        U8 group[4][2];
        set_group<0>(planes, scales, group);
        set_group<1>(planes, scales, group);
        set_group<2>(planes, scales, group);
        set_group<3>(planes, scales, group);
        units_to_lanes(group, out.code);
        out.scale = load_block_scales(w + offsetof(quant::BlockQ2K, d), kBlockBytes, p);
        out.minimum = hn::ShiftRight<4>(sub_blocks);
        out.minimum_scale = load_block_scales(w + offsetof(quant::BlockQ2K, dmin), kBlockBytes, p);
    }

  private:
    // The scale bytes of each unit's eight sub-blocks.
    static HWY_INLINE I16 load_sub_blocks(const std::byte* w, std::size_t p) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(w);
        if constexpr (kParts == 1) {
            const hn::Half<D16> d;
            const hn::Rebind<std::uint8_t, decltype(d)> d_bytes;
            return hn::Combine(D16(), hn::PromoteTo(d, hn::LoadU(d_bytes, bytes + kBlockBytes)),
                               hn::PromoteTo(d, hn::LoadU(d_bytes, bytes)));
        } else {
            const hn::Rebind<std::uint8_t, D16> d_bytes;
            const std::size_t unit = p * kPartUnits;
            return hn::PromoteTo(D16(), hn::LoadU(d_bytes, bytes + unit / 2 * kBlockBytes + unit % 2 * 8));
        }
    }

    // A multiplication of 16-bit lanes multiplies both bytes: they stay below 46.
    template <int r>
    static HWY_INLINE void set_group(const U8 (&planes)[2], I16 scales, U8 (&group)[4][2]) {
        const I16 low = hn::BitCast(D16(), bit_field(planes[0], 2 * r, 3));
        const I16 high = hn::BitCast(D16(), bit_field(planes[1], 2 * r, 3));
        group[r][0] = hn::BitCast(DU8(), hn::Mul(low, broadcast<2 * r>(scales)));
        group[r][1] = hn::BitCast(DU8(), hn::Mul(high, broadcast<2 * r + 1>(scales)));
    }

    // 16-bit lane i of every 16 bytes to all eight.
    template <int i>
    static HWY_INLINE I16 broadcast(I16 v) {
        alignas(16) static constexpr std::uint8_t kFrom[16] = {
            2 * i, 2 * i + 1, 2 * i, 2 * i + 1, 2 * i, 2 * i + 1, 2 * i, 2 * i + 1,
            2 * i, 2 * i + 1, 2 * i, 2 * i + 1, 2 * i, 2 * i + 1, 2 * i, 2 * i + 1};
        return hn::TableLookupBytes(v, hn::BitCast(D16(), hn::LoadDup128(DU8(), kFrom)));
    }
};

// ---- Q4_K

struct FormatQ4K {
    static constexpr bool kAffine = true;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockQ4K);

    // Half a block is a unit: 32 bytes with groups 0 and 1 in their nibbles, 32 with groups 2 and 3.
    static HWY_INLINE void decode(const std::byte* w, std::size_t p, WeightPart<true>& out) {
        U8 group[4][2];
        for (std::size_t i = 0; i < 2; ++i) {
            for (std::size_t h = 0; h < 2; ++h) {
                const std::byte* q = w + offsetof(quant::BlockQ4K, q) + 32 * i + 16 * h;
                const U8 bytes =
                    load_units(p, [=](std::size_t u) { return q + u / 2 * kBlockBytes + u % 2 * 64; });
                group[2 * i][h] = bit_field(bytes, 0, 15);
                group[2 * i + 1][h] = bit_field(bytes, 4, 15);
            }
        }
        units_to_lanes(group, out.code);
        std::uint8_t scale[16], minimum[16];  // of both blocks
        for (std::size_t b = 0; b < 2; ++b) {
            const auto s = quant::unpack_scales(w + b * kBlockBytes + offsetof(quant::BlockQ4K, scales));
            std::memcpy(scale + 8 * b, s.scale, 8);
            std::memcpy(minimum + 8 * b, s.minimum, 8);
        }
        const hn::Rebind<std::uint8_t, D32> d_bytes;
        const I32 scales = hn::PromoteTo(D32(), hn::LoadU(d_bytes, scale + p * kPartLanes));
        const I32 minima = hn::PromoteTo(D32(), hn::LoadU(d_bytes, minimum + p * kPartLanes));
        out.scale = mul(load_block_scales(w, kBlockBytes, p), to_f32(scales));
        out.minimum = hn::BitCast(D16(), hn::Or(minima, hn::ShiftLeft<16>(minima)));
        out.minimum_scale = load_block_scales(w + offsetof(quant::BlockQ4K, dmin), kBlockBytes, p);
    }
};

// ---- IQ2_XXS

struct FormatIQ2XXS {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockIQ2XXS);

    static HWY_INLINE void decode(const std::byte* w, std::size_t p, WeightPart<false>& out) {
        const auto packed = load_packed(w, p);
        const U8 signs = sign_bytes(packed);
        // Written out: as a loop it went through memory.
        const U8 group[4][2] = {{signed_tuples<0, 0>(w, p, signs), signed_tuples<0, 1>(w, p, signs)},
                                {signed_tuples<1, 0>(w, p, signs), signed_tuples<1, 1>(w, p, signs)},
                                {signed_tuples<2, 0>(w, p, signs), signed_tuples<2, 1>(w, p, signs)},
                                {signed_tuples<3, 0>(w, p, signs), signed_tuples<3, 1>(w, p, signs)}};
        units_to_lanes(group, out.code);
        const auto code = hn::ShiftRight<28>(packed);
        const auto numerator = hn::BitCast(D32(), hn::Or(hn::Add(code, code), hn::Set(DU32(), 1u)));
        out.scale = mul(mul(load_block_scales(w, kBlockBytes, p), hn::Set(DF(), 0.125f)), to_f32(numerator));
    }

  private:
    static const std::byte* group_at(const std::byte* w, std::size_t g) {
        return w + g / 8 * kBlockBytes + offsetof(quant::BlockIQ2XXS, groups) +
               g % 8 * sizeof(quant::GroupIQ2XXS);
    }

    // The word with signs and scale of each lane's group.
    static HWY_INLINE hn::Vec<DU32> load_packed(const std::byte* w, std::size_t p) {
        const std::byte* low = group_at(w, p * kPartLanes);
        const std::byte* high = group_at(w, p * kPartLanes + kPartLanes / 2);
        const auto a = hn::LoadU(DU8(), reinterpret_cast<const std::uint8_t*>(low));
        const auto b = hn::LoadU(DU8(), reinterpret_cast<const std::uint8_t*>(high));
        return hn::ConcatOdd(DU32(), hn::BitCast(DU32(), b), hn::BitCast(DU32(), a));
    }

    // Per lane the signs of its four tuples, a bit per element: seven bits of the word each, and an eighth
    // that makes their number even.
    static HWY_INLINE U8 sign_bytes(hn::Vec<DU32> packed) {
        const auto bits = [](hn::Vec<DU32> v, std::uint32_t mask)
                              HWY_ATTR { return hn::And(v, hn::Set(DU32(), mask)); };
        const auto halves = hn::Or(bits(packed, 0x3fff), bits(hn::ShiftLeft<2>(packed), 0x3fff0000));
        const auto sevens = hn::Or(bits(halves, 0x007f007f), bits(hn::ShiftLeft<1>(halves), 0x7f007f00));
        auto parity = hn::Xor(sevens, hn::ShiftRight<4>(sevens));
        parity = hn::Xor(parity, hn::ShiftRight<2>(parity));
        parity = hn::Xor(parity, hn::ShiftRight<1>(parity));
        return hn::BitCast(DU8(), hn::Or(sevens, hn::ShiftLeft<7>(bits(parity, 0x01010101))));
    }

    // Tuples 2h and 2h + 1 of group r of each unit.
    template <std::uint8_t r, std::uint8_t h>
    static HWY_INLINE U8 signed_tuples(const std::byte* w, std::size_t p, U8 signs) {
        const auto magnitudes = [=](std::size_t u) HWY_ATTR {
            const hn::CappedTag<std::uint64_t, 1> d1;
            const hn::CappedTag<std::uint64_t, 2> d2;
            const std::byte* tuple = group_at(w, 4 * (p * kPartUnits + u) + r) + 2 * h;
            const auto low = hn::Load(d1, &quant::kIq2xxsGrid[static_cast<std::size_t>(tuple[0])]);
            const auto high = hn::Load(d1, &quant::kIq2xxsGrid[static_cast<std::size_t>(tuple[1])]);
            return hn::BitCast(D8x16(), hn::Combine(d2, high, low));
        };
        constexpr std::uint8_t a = 4 * r + 2 * h, b = a + 1;
        alignas(16) static constexpr std::uint8_t kFrom[16] = {a, a, a, a, a, a, a, a,
                                                               b, b, b, b, b, b, b, b};
        alignas(16) static constexpr std::uint8_t kBit[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                              1, 2, 4, 8, 16, 32, 64, 128};
        const U8 bit = hn::LoadDup128(DU8(), kBit);
        const U8 own = hn::TableLookupBytes(signs, hn::LoadDup128(DU8(), kFrom));
        const U8 negative = hn::VecFromMask(DU8(), hn::Eq(hn::And(own, bit), bit));
        return hn::Sub(hn::Xor(combine_units(magnitudes), negative), negative);
    }
};

DS4_KERNELS_END

#endif  // per-target include guard
