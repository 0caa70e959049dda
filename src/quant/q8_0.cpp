#include "quant/q8_0.h"

#include <algorithm>
#include <cmath>

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

void decode(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 32, blocks += sizeof(BlockQ8_0)) {
        const auto block = load<BlockQ8_0>(blocks);
        const float d = f16_to_f32(block.d);
        for (std::size_t j = 0; j < 32; ++j) values[i + j] = d * static_cast<float>(block.q[j]);
    }
}

// x: 32 values. A block that f16 cannot scale (a NaN, an infinity, values beyond 127 * 65504) gets a NaN
// scale, which find_bad_scale reports, instead of silently wrong values.
BlockQ8_0 encode_block(const float* x) {
    constexpr std::uint16_t kF16Nan = 0x7e00;
    float amax = 0;
    bool finite = true;
    for (std::size_t j = 0; j < 32; ++j) {
        finite &= !is_f32_nonfinite(x[j]);
        amax = std::max(amax, std::abs(x[j]));
    }
    const float d = amax / 127.0f;
    BlockQ8_0 block{};
    block.d = finite ? f32_to_f16(d) : kF16Nan;
    if (is_f16_nonfinite(block.d)) {
        block.d = kF16Nan;
        return block;
    }
    const float inverse = 1.0f / d;
    if (is_f32_nonfinite(inverse)) return block;  // all zero, or so small that the f16 scale is zero as well
    for (std::size_t j = 0; j < 32; ++j) block.q[j] = static_cast<std::int8_t>(std::round(x[j] * inverse));
    return block;
}

void encode(const float* values, std::byte* blocks, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 32, blocks += sizeof(BlockQ8_0))
        store(blocks, encode_block(values + i));
}

std::size_t find_bad_scale(const std::byte* blocks, std::size_t n_blocks) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        if (is_f16_nonfinite(load<std::uint16_t>(blocks + b * sizeof(BlockQ8_0)))) return b;
    }
    return n_blocks;
}

}  // namespace

constinit const Format kQ8_0{Type::q8_0, "Q8_0", 32, sizeof(BlockQ8_0), decode, encode, find_bad_scale};

}  // namespace ds4::quant
