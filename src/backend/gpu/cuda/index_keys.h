#pragma once

#include "backend/gpu/cuda/kv_fragments.h"

// Indexer rows stored as FP4, and queries on the same grid, as operands of the matrix unit in BF16: both are
// exact there, and so are their products in f32. A lane with index q of its four holds block q of 32 dims of
// a row: dims 32 q + 4 s .. + 3 are its four inputs of step s. The dot product is the same as long as both
// sides do it.
namespace ds4::gpu::cuda {

constexpr uint32_t kIndexDims = 128, kIndexBlock = 32, kIndexBlocks = kIndexDims / kIndexBlock;
constexpr uint32_t kIndexSteps = kIndexDims / 16;

DS4_DEVICE uint32_t pack_bf16(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
DS4_DEVICE uint32_t multiply_bf16(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(c) : "r"(a), "r"(b), "r"(0x80008000u));
    return c;
}

// c += a b, 16 x 8 x 16 in BF16, f32 sums.
DS4_DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

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
