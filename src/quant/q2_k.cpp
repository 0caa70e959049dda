#include "quant/q2_k.h"

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

void decode_block(const BlockQ2K& block, float* values) {
    const float d = f16_to_f32(block.d);
    const float dmin = f16_to_f32(block.dmin);
    for (std::size_t i = 0; i < 256; i += 16) {  // one sub-block
        const std::size_t plane = i % 128 / 32;
        const std::uint8_t* q = block.q + 32 * (i / 128) + i % 32;
        const float scale = d * static_cast<float>(block.scales[i / 16] & 15);
        const float minimum = dmin * static_cast<float>(block.scales[i / 16] >> 4);
        for (std::size_t j = 0; j < 16; ++j) {
            values[i + j] = scale * static_cast<float>((q[j] >> (2 * plane)) & 3) - minimum;
        }
    }
}

void decode(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 256, blocks += sizeof(BlockQ2K)) {
        decode_block(load<BlockQ2K>(blocks), values + i);
    }
}

std::size_t find_bad_scale(const std::byte* blocks, std::size_t n_blocks) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        const auto block = load<BlockQ2K>(blocks + b * sizeof(BlockQ2K));
        if (is_f16_nonfinite(block.d) || is_f16_nonfinite(block.dmin)) return b;
    }
    return n_blocks;
}

}  // namespace

constinit const Format kQ2K{Type::q2_k, "Q2_K", 256, sizeof(BlockQ2K), decode, nullptr, find_bad_scale};

}  // namespace ds4::quant
