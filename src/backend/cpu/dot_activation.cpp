#include "backend/cpu/dot.h"
#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/dot_activation.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: used anew for each target.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "backend/cpu/dot_chunk.h"
#include "ds4/error.h"
#include "quant/float_bits.h"

// The plain loops below are here, and not outside, so that the compiler vectorises them for each target.
HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr std::size_t kUnit = 4;  // groups that are encoded together

// Bits of the largest magnitudes. They order like the magnitudes, with infinity and NaN on top.
struct Extremes {
    std::uint32_t positive, negative;  // among the values of either sign; 0 if there is none
};

template <std::size_t kBlock>
Extremes find_extremes(const float* x) {
    std::int32_t top = 0;      // as signed numbers, negative values lie below all others
    std::uint32_t bottom = 0;  // as unsigned ones, above
    for (std::size_t i = 0; i < kBlock; ++i) {
        top = std::max(top, std::bit_cast<std::int32_t>(x[i]));
        bottom = std::max(bottom, std::bit_cast<std::uint32_t>(x[i]));
    }
    constexpr std::uint32_t kSign = ~quant::kF32MagnitudeMask;
    return {static_cast<std::uint32_t>(top), bottom >= kSign ? bottom - kSign : 0};
}

// How a block of values becomes codes under one scale.
struct Scaling {
    float scale;    // NaN for a block with a NaN or an infinity, so that a product with it is NaN
    float inverse;  // 0 where all codes are zero: there, and for a block too small for f32 reciprocals
};

// q8_0: the largest magnitude becomes 127.
struct BlocksOf32 {
    static constexpr std::size_t kBlock = 32;

    static Scaling scaling(const float* x) {
        const Extremes extremes = find_extremes<kBlock>(x);
        const std::uint32_t max_bits = std::max(extremes.positive, extremes.negative);
        if (max_bits >= quant::kF32ExponentMask) return {kNan, 0};
        const float scale = std::bit_cast<float>(max_bits) / 127.0f;
        const float inverse = 1.0f / scale;
        return std::isfinite(inverse) ? Scaling{scale, inverse} : Scaling{0, 0};
    }
};

// q8_k: the element of largest magnitude (the first of them) becomes -127. model.md 14.8
struct BlocksOf256 {
    static constexpr std::size_t kBlock = 256;

    static Scaling scaling(const float* x) {
        const Extremes extremes = find_extremes<kBlock>(x);
        const std::uint32_t max_bits = std::max(extremes.positive, extremes.negative);
        if (max_bits >= quant::kF32ExponentMask) return {kNan, 0};
        const float amax = std::bit_cast<float>(max_bits);
        float m = extremes.positive > extremes.negative ? amax : -amax;
        if (extremes.positive == extremes.negative) {
            m = *std::find_if(x, x + kBlock, [amax](float v) { return std::abs(v) == amax; });
        }
        const float inverse = -127.0f / m;
        return std::isfinite(inverse) ? Scaling{1.0f / inverse, inverse} : Scaling{0, 0};
    }
};

// codes[i] = x[i] * inverse, to nearest, ties to even; |x[i] * inverse| <= 128. Adding 1.5 * 2^23 leaves the
// integer in the low mantissa bits; unlike a call of rint this vectorises without SSE4.1.
inline void encode_codes(const float* x, float inverse, std::int8_t* codes) {
    constexpr float kShift = 0x1.8p23f;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(x[i] * inverse + kShift);
        codes[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(bits));
    }
}

// Groups 4u .. 4u + 3 of a chunk, codes (4, 32), to their places, and their sums.
inline void place_unit(const std::int8_t* codes, std::size_t u, ActivationChunk& chunk) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    for (std::size_t i = 0; i < kUnit * kGroup; ++i) {
        const std::size_t g = kUnit * u + i / kGroup;
        chunk.code[place_in_chunk(g, i % kGroup)] = codes[i];
        std::int16_t& sum = chunk.sum[g][i % kGroup / 16];
        sum = static_cast<std::int16_t>(sum + codes[i]);
    }
#else
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::CappedTag<std::int8_t, 16> d8;
    const hn::Repartition<std::int16_t, decltype(d8)> d16;
    const hn::Repartition<std::uint32_t, decltype(d8)> d32;
    const hn::Repartition<std::uint64_t, decltype(d8)> d64;
    alignas(16) static constexpr std::int8_t kHalfWords[16] = {0, 8,  1, 9,  2, 10, 3, 11,
                                                               4, 12, 5, 13, 6, 14, 7, 15};
    const auto half_words = hn::Load(d8, kHalfWords);
    // Words (j, 8 + j, 16 + j, 24 + j): of each group for j = 0 .. 3, then for j = 4 .. 7.
    hn::Vec<decltype(d32)> words[2][kUnit];
    for (std::size_t r = 0; r < kUnit; ++r) {
        const std::int8_t* group = codes + r * kGroup;
        const auto low = hn::BitCast(d16, hn::TableLookupBytes(hn::LoadU(d8, group), half_words));
        const auto high = hn::BitCast(d16, hn::TableLookupBytes(hn::LoadU(d8, group + 16), half_words));
        words[0][r] = hn::BitCast(d32, hn::InterleaveLower(d16, low, high));
        words[1][r] = hn::BitCast(d32, hn::InterleaveUpper(d16, low, high));
    }
    auto sums = hn::Zero(d16);
    const auto place = [&](std::size_t j, hn::Vec<decltype(d64)> v) HWY_ATTR {
        hn::StoreU(hn::BitCast(d8, v), d8, chunk.code + j * kRegister + 16 * u);
        const auto pairs = hn::BitCast(d16, v);
        sums = hn::Add(sums, hn::Add(hn::ShiftRight<8>(pairs), hn::ShiftRight<8>(hn::ShiftLeft<8>(pairs))));
    };
    for (std::size_t h = 0; h < 2; ++h) {
        const auto a = hn::BitCast(d64, hn::InterleaveLower(d32, words[h][0], words[h][1]));
        const auto b = hn::BitCast(d64, hn::InterleaveUpper(d32, words[h][0], words[h][1]));
        const auto c = hn::BitCast(d64, hn::InterleaveLower(d32, words[h][2], words[h][3]));
        const auto d = hn::BitCast(d64, hn::InterleaveUpper(d32, words[h][2], words[h][3]));
        place(4 * h, hn::InterleaveLower(d64, a, c));
        place(4 * h + 1, hn::InterleaveUpper(d64, a, c));
        place(4 * h + 2, hn::InterleaveLower(d64, b, d));
        place(4 * h + 3, hn::InterleaveUpper(d64, b, d));
    }
    hn::StoreU(sums, d16, chunk.sum[kUnit * u]);
#endif
}

template <class Blocks>
void prepare_chunks(const float* x, std::size_t n, ActivationChunk* out) {
    Scaling scaling{};
    for (std::size_t c = 0; c < chunks_of(n); ++c) {
        ActivationChunk chunk{};
        for (std::size_t u = 0; u < kLanes / kUnit; ++u) {
            std::int8_t codes[kUnit * kGroup] = {};
            for (std::size_t g = kUnit * u; g < kUnit * (u + 1); ++g) {
                const std::size_t at = c * kChunk + g * kGroup;
                if (at >= n) break;
                if (at % Blocks::kBlock == 0) scaling = Blocks::scaling(x + at);
                chunk.scale[g] = scaling.scale;
                if (scaling.inverse != 0) encode_codes(x + at, scaling.inverse, codes + g % kUnit * kGroup);
            }
            place_unit(codes, u, chunk);
        }
        out[c] = chunk;
    }
}

void prepare_on_target(ActivationFormat format, const float* x, std::size_t n, ActivationChunk* out) {
    if (format == ActivationFormat::q8_0) return prepare_chunks<BlocksOf32>(x, n, out);
    prepare_chunks<BlocksOf256>(x, n, out);
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {
namespace {

HWY_EXPORT(prepare_on_target);

}  // namespace

ActivationFormat activation_format(quant::Type weights) {
    switch (weights) {
        case quant::Type::f32:
        case quant::Type::f16:
        case quant::Type::bf16:
            return ActivationFormat::f32;
        case quant::Type::q8_0:
        case quant::Type::mxfp4:
            return ActivationFormat::q8_0;
        case quant::Type::q2_k:
        case quant::Type::q4_k:
        case quant::Type::iq2_xxs:
            return ActivationFormat::q8_k;
        case quant::Type::i32:
            break;
    }
    throw Error(std::string(quant::format(weights).name) +
                " tensors hold data, not weights to multiply with");
}

std::size_t activation_bytes(ActivationFormat format, std::size_t n) {
    if (format == ActivationFormat::f32) return (n * sizeof(float) + 63) / 64 * 64;
    return chunks_of(n) * sizeof(ActivationChunk);
}

void prepare_activation(ActivationFormat format, const float* x, std::size_t n, std::byte* out) {
    if (format != ActivationFormat::f32) {
        auto* chunks = reinterpret_cast<ActivationChunk*>(out);
        return HWY_DYNAMIC_DISPATCH(prepare_on_target)(format, x, n, chunks);
    }
    if (n != 0) std::memcpy(out, x, n * sizeof(float));
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
