#pragma once

#include "backend/gpu/cuda/kv_fragments.h"

// Indexer rows stored as FP4, and queries on the same grid, as operands of the matrix unit in BF16: both are
// exact there, and so are their products in f32. A lane with index q of its four holds block q of 32 dims of
// a row: dims 32 q + 4 s .. + 3 are its four inputs of step s. The dot product is the same as long as both
// sides do it.
namespace ds4::gpu::cuda {

constexpr uint32_t kIndexDims = 128, kIndexBlock = 32, kIndexBlocks = kIndexDims / kIndexBlock;
constexpr uint32_t kIndexSteps = kIndexDims / 16;

// Four codes in the low half of `codes` times scale (twice in a word).
DS4_DEVICE void e2m1_bf16(uint32_t codes, uint32_t scale, uint32_t& first, uint32_t& second) {
    // Upper and lower bytes of 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    constexpr uint32_t kUpper0 = 0x3f3f3f00u, kUpper1 = 0x40404040u;
    constexpr uint32_t kLower0 = 0xc0800000u, kLower1 = 0xc0804000u;
    const uint32_t places = codes & 0x7777u;
    const uint32_t upper = permute(kUpper0, kUpper1, places) | (codes & 0x0008u) << 4 |
                           (codes & 0x0080u) << 8 | (codes & 0x0800u) << 12 | (codes & 0x8000u) << 16;
    const uint32_t lower = permute(kLower0, kLower1, places);
    first = multiply_bf16(permute(lower, upper, 0x5140), scale);
    second = multiply_bf16(permute(lower, upper, 0x7362), scale);
}

// A lane's block of a stored row, on the way.
struct IndexBlock {
    uint32_t codes[4];
    uint32_t scale;  // as stored
};
DS4_DEVICE IndexBlock load_index_block(const uint8_t* row, uint32_t block) {
    IndexBlock out;
    load_words(row + kIndexBlocks + kIndexBlock / 2 * block, out.codes);
    out.scale = row[block];
    return out;
}

// Rows g and g + 8 of 16, as A of all steps.
DS4_DEVICE void index_fragments(const IndexBlock& row, const IndexBlock& row8,
                                uint32_t (&a)[kIndexSteps][4]) {
    const uint32_t scale = pack_bf16(e8m0(row.scale), e8m0(row.scale));
    const uint32_t scale8 = pack_bf16(e8m0(row8.scale), e8m0(row8.scale));
#pragma unroll
    for (uint32_t s = 0; s < kIndexSteps; ++s) {
        e2m1_bf16(row.codes[s / 2] >> 16 * (s % 2), scale, a[s][0], a[s][2]);
        e2m1_bf16(row8.codes[s / 2] >> 16 * (s % 2), scale8, a[s][1], a[s][3]);
    }
}

}  // namespace ds4::gpu::cuda
