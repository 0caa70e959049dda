#include "quant/rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

// A small float format: mantissa bits, exponent of its smallest normal value, largest value; and the smallest
// block maximum that its scale is made for.
struct Grid {
    int mantissa_bits;
    int min_exponent;
    float max;
    float amax_floor;
};
constexpr Grid kE4m3{3, -6, kFp8Max, kFp8Floor};
constexpr Grid kE2m1{1, 0, kFp4Max, kFp4Floor};

// The smallest power of two that is not below v, v positive and normal, read off its bits: a logarithm would
// be one step off next to powers of two.
float ceil_power_of_two(float v) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    return std::bit_cast<float>((bits + 0x007fffffu) & kF32ExponentMask);
}

// |y| to the nearest value of the grid, ties to the even mantissa; the sign of y is kept. The grid's step at
// |y| is 2^(exponent - mantissa_bits), so adding and taking away 2^23 steps makes the f32 adder do the
// rounding.
template <Grid grid>
float round_to_grid(float y) {
    constexpr auto kMinNormal = static_cast<std::uint32_t>(127 + grid.min_exponent) << 23;
    constexpr auto kSteps = static_cast<std::uint32_t>(23 - grid.mantissa_bits) << 23;
    const auto bits = std::bit_cast<std::uint32_t>(y);
    const std::uint32_t sign = bits & ~kF32MagnitudeMask;
    const float magnitude = std::min(std::bit_cast<float>(bits & kF32MagnitudeMask), grid.max);
    const std::uint32_t power =
        std::max(std::bit_cast<std::uint32_t>(magnitude) & kF32ExponentMask, kMinNormal);
    const auto shift = std::bit_cast<float>(power + kSteps);
    const float rounded = (magnitude + shift) - shift;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) | sign);
}

// x: one block under one scale.
template <Grid grid, std::size_t kBlock>
void round_block(float* x) {
    std::uint32_t max_bits = 0;  // magnitudes order like their bits, NaN and infinity on top
    for (std::size_t i = 0; i < kBlock; ++i) {
        max_bits = std::max(max_bits, std::bit_cast<std::uint32_t>(x[i]) & kF32MagnitudeMask);
    }
    if (max_bits >= kF32ExponentMask) {
        std::fill_n(x, kBlock, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    const float amax = std::max(std::bit_cast<float>(max_bits), grid.amax_floor);
    const float scale = ceil_power_of_two(amax * (1.0f / grid.max));
    const float inverse = 1.0f / scale;  // exact
    for (std::size_t i = 0; i < kBlock; ++i) x[i] = round_to_grid<grid>(x[i] * inverse) * scale;
}

}  // namespace

std::uint8_t scale_exponent(float amax, float max) {
    const float scale = ceil_power_of_two(amax * (1.0f / max));
    return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(scale) >> 23);
}

void round_fp8(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += kFp8Block) round_block<kE4m3, kFp8Block>(x + i);
}

void round_fp4(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += kFp4Block) round_block<kE2m1, kFp4Block>(x + i);
}

void hadamard(float* x, std::size_t n) {
    for (std::size_t stride = 1; stride < n; stride *= 2) {
        for (std::size_t pair = 0; pair < n; pair += 2 * stride) {
            for (std::size_t i = pair; i < pair + stride; ++i) {
                const float a = x[i];
                const float b = x[i + stride];
                x[i] = a + b;
                x[i + stride] = a - b;
            }
        }
    }
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
    for (std::size_t i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace ds4::quant
