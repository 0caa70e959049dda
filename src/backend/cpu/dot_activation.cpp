#include "backend/cpu/dot_activation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "ds4/error.h"
#include "quant/float_bits.h"

namespace ds4::cpu {
namespace {

using quant::kF32ExponentMask;
using quant::kF32MagnitudeMask;
using quant::store;

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
void encode_codes(const float* x, float inverse, std::size_t n, std::int8_t* codes) {
    constexpr float kShift = 0x1.8p23f;
    for (std::size_t i = 0; i < n; ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(x[i] * inverse + kShift);
        codes[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(bits));
    }
}

// One block of q8_0; returns its scale. A block with a NaN or an infinity gets the scale NaN, so that a
// product with it is NaN; a block too small for f32 reciprocals (below about 4e-37) counts as zero.
float encode_q8_0_block(const float* x, std::int8_t* codes) {
    std::fill_n(codes, kQ8_0Block, std::int8_t{0});
    const std::uint32_t max_bits = max_magnitude_bits(x, kQ8_0Block);
    if (max_bits >= kF32ExponentMask) return kNan;
    const float scale = std::bit_cast<float>(max_bits) / 127.0f;
    const float inverse = 1.0f / scale;
    if (!std::isfinite(inverse)) return 0;
    encode_codes(x, inverse, kQ8_0Block, codes);
    return scale;
}

void prepare_q8_0(const float* x, std::size_t n, std::byte* out) {
    auto* codes = reinterpret_cast<std::int8_t*>(out);
    std::byte* scales = out + q8_0_scales_offset(n);
    for (std::size_t b = 0; b < n / kQ8_0Block; ++b) {
        store(scales + b * sizeof(float), encode_q8_0_block(x + b * kQ8_0Block, codes + b * kQ8_0Block));
    }
}

// One block of q8_k; returns its scale, as in encode_q8_0_block. The scale has the sign that turns the
// element of largest magnitude (the first of them) into -127. model.md 14.8
float encode_q8_k_block(const float* x, std::int8_t* codes) {
    std::fill_n(codes, kQ8KBlock, std::int8_t{0});
    const std::uint32_t max_bits = max_magnitude_bits(x, kQ8KBlock);
    if (max_bits >= kF32ExponentMask) return kNan;
    const float amax = std::bit_cast<float>(max_bits);
    const float m = *std::find_if(x, x + kQ8KBlock, [amax](float v) { return std::abs(v) == amax; });
    const float inverse = -127.0f / m;
    if (!std::isfinite(inverse)) return 0;
    encode_codes(x, inverse, kQ8KBlock, codes);
    return 1.0f / inverse;
}

void prepare_q8_k(const float* x, std::size_t n, std::byte* out) {
    auto* codes = reinterpret_cast<std::int8_t*>(out);
    std::byte* sums = out + q8_k_sums_offset(n);
    std::byte* scales = out + q8_k_scales_offset(n);
    for (std::size_t b = 0; b < n / kQ8KBlock; ++b) {
        store(scales + b * sizeof(float), encode_q8_k_block(x + b * kQ8KBlock, codes + b * kQ8KBlock));
    }
    for (std::size_t k = 0; k < n / kQ8KSum; ++k) {
        int sum = 0;
        for (std::size_t i = 0; i < kQ8KSum; ++i) sum += codes[k * kQ8KSum + i];
        store(sums + k * sizeof(std::int16_t), static_cast<std::int16_t>(sum));
    }
}

std::size_t packed_bytes(ActivationFormat format, std::size_t n) {
    switch (format) {
        case ActivationFormat::q8_0:
            return q8_0_scales_offset(n) + n / kQ8_0Block * sizeof(float);
        case ActivationFormat::q8_k:
            return q8_k_scales_offset(n) + n / kQ8KBlock * sizeof(float);
        case ActivationFormat::f32:
            break;
    }
    return n * sizeof(float);
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
    return (packed_bytes(format, n) + 63) / 64 * 64;
}

void prepare_activation(ActivationFormat format, const float* x, std::size_t n, std::byte* out) {
    switch (format) {
        case ActivationFormat::f32:
            if (n != 0) std::memcpy(out, x, n * sizeof(float));
            break;
        case ActivationFormat::q8_0:
            prepare_q8_0(x, n, out);
            break;
        case ActivationFormat::q8_k:
            prepare_q8_k(x, n, out);
            break;
    }
}

}  // namespace ds4::cpu
