#include "quant/mxfp4.h"

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

// ggml keeps the magnitudes as integers, so that code 8 is +0 (unlike in the released checkpoint): adding 0
// turns -0 into it and leaves all other values alone.
float value(int code, float scale) {
    return kE2m1Values[code] * scale + 0.0f;
}

void decode(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 32, blocks += sizeof(BlockMxfp4)) {
        const auto block = load<BlockMxfp4>(blocks);
        const float scale = e8m0_to_f32(block.e);
        for (std::size_t j = 0; j < 16; ++j) {
            values[i + j] = value(block.q[j] & 15, scale);
            values[i + 16 + j] = value(block.q[j] >> 4, scale);
        }
    }
}

std::size_t find_bad_scale(const std::byte* blocks, std::size_t n_blocks) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        if (load<std::uint8_t>(blocks + b * sizeof(BlockMxfp4)) == 255) return b;
    }
    return n_blocks;
}

}  // namespace

constinit const Format kMxfp4{Type::mxfp4, "MXFP4", 32, sizeof(BlockMxfp4), decode, nullptr, find_bad_scale};

}  // namespace ds4::quant
