#include "quant/q4_k.h"

namespace ds4::quant {
namespace {

void decode_block(const BlockQ4K& block, float* values) {
    const float d = f16_to_f32(block.d);
    const float dmin = f16_to_f32(block.dmin);
    const ScalesQ4K s = unpack_scales(reinterpret_cast<const std::byte*>(block.scales));
    for (std::size_t j = 0; j < 8; ++j) {  // sub-block
        const std::uint8_t* q = block.q + 32 * (j / 2);
        const float scale = d * static_cast<float>(s.scale[j]);
        const float minimum = dmin * static_cast<float>(s.minimum[j]);
        for (std::size_t l = 0; l < 32; ++l) {
            const int code = j % 2 == 0 ? q[l] & 15 : q[l] >> 4;
            values[32 * j + l] = scale * static_cast<float>(code) - minimum;
        }
    }
}

void decode(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 256, blocks += sizeof(BlockQ4K)) {
        decode_block(load<BlockQ4K>(blocks), values + i);
    }
}

std::size_t find_bad_scale(const std::byte* blocks, std::size_t n_blocks) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        const auto block = load<BlockQ4K>(blocks + b * sizeof(BlockQ4K));
        if (is_f16_nonfinite(block.d) || is_f16_nonfinite(block.dmin)) return b;
    }
    return n_blocks;
}

}  // namespace

constinit const Format kQ4K{Type::q4_k, "Q4_K", 256, sizeof(BlockQ4K), decode, nullptr, find_bad_scale};

}  // namespace ds4::quant
