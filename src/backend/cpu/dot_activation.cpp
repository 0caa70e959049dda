#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_chunk.h"
#include "ds4/error.h"
#include "quant/float_bits.h"

namespace ds4::cpu {
namespace {

using quant::kF32ExponentMask;
using quant::kF32MagnitudeMask;

constexpr std::size_t kQ8_0Block = 32;  // values per scale
constexpr std::size_t kQ8KBlock = 256;  // values per scale

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bits of the largest magnitude. They order like the magnitudes, with infinity and NaN on top.
std::uint32_t max_magnitude_bits(const float* x, std::size_t n) {
    std::uint32_t max_bits = 0;
    for (std::size_t i = 0; i < n; ++i) {
        max_bits = std::max(max_bits, std::bit_cast<std::uint32_t>(x[i]) & kF32MagnitudeMask);
    }
    return max_bits;
}

// codes[i] = x[i] * inverse, to nearest, ties to even; |x[i] * inverse| <= 128. Adding 1.5 * 2^23 leaves the
// integer in the low mantissa bits; unlike a call of rint this vectorises without SSE4.1.
void encode_codes(const float* x, float inverse, std::int8_t* codes) {
    constexpr float kShift = 0x1.8p23f;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(x[i] * inverse + kShift);
        codes[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(bits));
    }
}

// How a block of values becomes codes under one scale.
struct Scaling {
    float scale;    // NaN for a block with a NaN or an infinity, so that a product with it is NaN
    float inverse;  // 0 where all codes are zero: there, and for a block too small for f32 reciprocals
};

// q8_0: the largest magnitude becomes 127.
Scaling scaling_q8_0(const float* x) {
    const std::uint32_t max_bits = max_magnitude_bits(x, kQ8_0Block);
    if (max_bits >= kF32ExponentMask) return {kNan, 0};
    const float scale = std::bit_cast<float>(max_bits) / 127.0f;
    const float inverse = 1.0f / scale;
    return std::isfinite(inverse) ? Scaling{scale, inverse} : Scaling{0, 0};
}

// q8_k: the element of largest magnitude (the first of them) becomes -127. model.md 14.8
Scaling scaling_q8_k(const float* x) {
    const std::uint32_t max_bits = max_magnitude_bits(x, kQ8KBlock);
    if (max_bits >= kF32ExponentMask) return {kNan, 0};
    const float amax = std::bit_cast<float>(max_bits);
    const float m = *std::find_if(x, x + kQ8KBlock, [amax](float v) { return std::abs(v) == amax; });
    const float inverse = -127.0f / m;
    return std::isfinite(inverse) ? Scaling{1.0f / inverse, inverse} : Scaling{0, 0};
}

// Group g of a chunk. x: its 32 values.
void encode_group(const float* x, const Scaling& scaling, std::size_t g, ActivationChunk& chunk) {
    chunk.scale[g] = scaling.scale;
    if (scaling.inverse == 0) return;  // the codes are zero already
    std::int8_t codes[kGroup];
    encode_codes(x, scaling.inverse, codes);
    for (std::size_t i = 0; i < kGroup; ++i) chunk.code[place_in_chunk(g, i)] = codes[i];
    for (std::size_t half = 0; half < 2; ++half) {
        int sum = 0;
        for (std::size_t i = 0; i < kGroup / 2; ++i) sum += codes[half * kGroup / 2 + i];
        chunk.sum[g][half] = static_cast<std::int16_t>(sum);
    }
}

template <std::size_t kBlock, Scaling (*scaling_of)(const float*)>
void prepare(const float* x, std::size_t n, ActivationChunk* out) {
    std::memset(static_cast<void*>(out), 0, chunks_of(n) * sizeof(ActivationChunk));
    for (std::size_t b = 0; b < n; b += kBlock) {
        const Scaling scaling = scaling_of(x + b);
        for (std::size_t i = b; i < b + kBlock; i += kGroup) {
            encode_group(x + i, scaling, i / kGroup % kLanes, out[i / kChunk]);
        }
    }
}

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
    auto* chunks = reinterpret_cast<ActivationChunk*>(out);
    switch (format) {
        case ActivationFormat::f32:
            if (n != 0) std::memcpy(out, x, n * sizeof(float));
            break;
        case ActivationFormat::q8_0:
            prepare<kQ8_0Block, scaling_q8_0>(x, n, chunks);
            break;
        case ActivationFormat::q8_k:
            prepare<kQ8KBlock, scaling_q8_k>(x, n, chunks);
            break;
    }
}

}  // namespace ds4::cpu
