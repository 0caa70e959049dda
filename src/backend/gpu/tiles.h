#pragma once

#include <stdint.h>

// How weights lie in device memory: the file's values, none changed, in the order in which the matrix units
// want them. A tile is 16 rows x some inputs of one matrix; a matrix is [row tile][input tile], a stack of
// experts has a constant stride. Rows past n_out and inputs past n_in are zeros. Byte counts equal the
// file's.
//
// Lane L of the 32 that multiply a tile has g = L / 4 and q = L % 4; it owns rows g and g + 8, and of every
// 32 inputs those from 8q to 8q + 7. (The order of inputs within a product is ours to choose, as the
// activations' side uses the same.) An int8 fragment of 16 rows x 32 inputs is four words a lane:
//   0: row g, inputs 8q .. 8q+3   1: row g+8, the same   2: row g, inputs 8q+4 .. 8q+7   3: row g+8, the same
//
// One function per format below gives word w of a tile from the blocks of the file (model.md 14). The
// repacking kernel calls it for every word; so does the host's test.
#if defined(__CUDACC__)
#define DS4_TILES_FN __host__ __device__ inline
#else
#define DS4_TILES_FN inline
#endif

namespace ds4::gpu::tiles {

enum class Layout : uint32_t { q8_0, f16, iq2_xxs, q2_k, q4_k };

constexpr uint32_t kRows = 16;  // of a tile

struct Shape {
    uint32_t inputs;       // of a tile
    uint32_t bytes;        // of a tile, a multiple of 16
    uint32_t block_elems;  // of a block in the file
    uint32_t block_bytes;
};

// What a tile consists of:
//
// q8_0: 4 fragments of 32 inputs, lane-major (512 bytes each); then the scales, f16[g][fragment][row g, g+8].
//
// f16: 4 fragments of 16 inputs, lane-major; the even ones have the first four of each lane's eight inputs:
//   word 0: row g, two inputs   1: row g+8, the same   2: row g, the next two   3: row g+8, the same
//
// iq2_xxs, q2_k, q4_k: see iq2_xxs_word, q2_k_word, q4_k_word.
constexpr DS4_TILES_FN Shape shape(Layout layout) {
    switch (layout) {
        case Layout::q8_0:
            return {128, 2176, 32, 34};
        case Layout::f16:
            return {64, 2048, 1, 2};
        case Layout::iq2_xxs:
            return {256, 1056, 256, 66};
        case Layout::q2_k:
            return {256, 1344, 256, 84};
        case Layout::q4_k:
            return {256, 2304, 256, 144};
    }
    return {};
}

constexpr DS4_TILES_FN uint32_t divide_up(uint32_t a, uint32_t b) {
    return (a + b - 1) / b;
}

// Where in a tile the parts after the codes begin, in bytes.
constexpr uint32_t kQ8Scales = 2048;
constexpr uint32_t kIq2Signs = 512, kIq2D = 1024;
constexpr uint32_t kQ2kScales = 1024, kQ2kMins = 1152, kQ2kD = 1280;
constexpr uint32_t kQ4kScales = 2048, kQ4kD = 2240;

// Where input i lies in a row of halves that is multiplied by tiles: in the order of the fragments of 16
// inputs.
constexpr DS4_TILES_FN uint32_t half_place(uint32_t i) {
    return (i & ~31u) | (i >> 2 & 1) << 4 | (i >> 1 & 1) << 3 | (i >> 3 & 3) << 1 | (i & 1);
}

// A matrix as it lies in the file.
struct Source {
    const uint8_t* blocks;  // (n_out, n_in) in blocks, rows one after the other
    uint32_t n_out, n_in;
};

DS4_TILES_FN uint32_t load16(const uint8_t* p) {
    return p[0] | static_cast<uint32_t>(p[1]) << 8;
}
DS4_TILES_FN uint32_t load32(const uint8_t* p) {
    return load16(p) | load16(p + 2) << 16;
}

// The block that holds input `i` of a row; null past the ends of the matrix.
DS4_TILES_FN const uint8_t* block_of(Layout layout, const Source& s, uint32_t row, uint32_t i) {
    const Shape f = shape(layout);
    if (row >= s.n_out || i >= s.n_in) return nullptr;
    return s.blocks +
           (static_cast<uint64_t>(row) * (s.n_in / f.block_elems) + i / f.block_elems) * f.block_bytes;
}

DS4_TILES_FN uint32_t q8_0_word(const Source& s, uint32_t row_tile, uint32_t input_tile, uint32_t w) {
    const uint32_t row = row_tile * kRows, first = input_tile * 128;
    if (w < kQ8Scales / 4) {
        const uint32_t g = w % 128 / 16, q = w / 4 % 4, part = w % 4;
        const uint32_t i = first + w / 128 * 32 + 8 * q + 4 * (part / 2);
        const uint8_t* block = block_of(Layout::q8_0, s, row + g + 8 * (part % 2), i);
        return block == nullptr ? 0 : load32(block + 2 + i % 32);
    }
    const uint32_t g = (w - kQ8Scales / 4) / 4, i = first + w % 4 * 32;
    const uint8_t* low = block_of(Layout::q8_0, s, row + g, i);
    const uint8_t* high = block_of(Layout::q8_0, s, row + g + 8, i);
    return (low == nullptr ? 0 : load16(low)) | (high == nullptr ? 0 : load16(high)) << 16;
}

DS4_TILES_FN uint32_t f16_word(const Source& s, uint32_t row_tile, uint32_t input_tile, uint32_t w) {
    const uint32_t g = w % 128 / 16, q = w / 4 % 4, part = w % 4;
    const uint32_t i = input_tile * 64 + w / 256 * 32 + 8 * q + w / 128 % 2 * 4 + 2 * (part / 2);
    const uint32_t row = row_tile * kRows + g + 8 * (part % 2);
    const uint8_t* low = block_of(Layout::f16, s, row, i);
    const uint8_t* high = block_of(Layout::f16, s, row, i + 1);
    return (low == nullptr ? 0 : load16(low)) | (high == nullptr ? 0 : load16(high)) << 16;
}

// 256 inputs = 8 groups of 32. Grid indices, 16 bytes a lane: byte 2 * group + half is index q of the group
// in row g + 8 * half. Signs, the same order: sign index in bits 1 .. 7. Bit 0 of byte b of word k is bit k
// of a scale nibble: that of group 2q + b / 2 in row g + 8 * (b % 2). So four lanes hold the 16 scales of
// their two rows. Then d: f16[g][row g, row g+8].
DS4_TILES_FN uint32_t iq2_xxs_word(const Source& s, uint32_t row_tile, uint32_t input_tile, uint32_t w) {
    const uint32_t row = row_tile * kRows, i = input_tile * 256;
    if (w >= kIq2D / 4) {
        const uint32_t g = w - kIq2D / 4;
        const uint8_t* low = block_of(Layout::iq2_xxs, s, row + g, i);
        const uint8_t* high = block_of(Layout::iq2_xxs, s, row + g + 8, i);
        return (low == nullptr ? 0 : load16(low)) | (high == nullptr ? 0 : load16(high)) << 16;
    }
    const bool signs = w >= kIq2Signs / 4;
    const uint32_t g = w % 128 / 16, q = w / 4 % 4, k = w % 4;
    uint32_t word = 0;
    for (uint32_t b = 0; b < 4; ++b) {
        const uint8_t* block = block_of(Layout::iq2_xxs, s, row + g + 8 * (b % 2), i);
        if (block == nullptr) continue;
        const uint8_t* group = block + 2 + 8 * (2 * k + b / 2);
        uint32_t byte = group[q];
        if (signs) {
            const uint8_t* scaled = block + 2 + 8 * (2 * q + b / 2);
            const uint32_t nibble = load32(scaled + 4) >> 28;
            byte = (load32(group + 4) >> (7 * q) & 127) << 1 | (nibble >> k & 1);
        }
        word |= byte << (8 * b);
    }
    return word;
}

// d and dmin of a row, the file's last or first four bytes of a block.
DS4_TILES_FN uint32_t pair_of_scales(Layout layout, const Source& s, uint32_t row, uint32_t i,
                                     uint32_t offset) {
    const uint8_t* block = block_of(layout, s, row, i);
    return block == nullptr ? 0 : load32(block + offset);
}

// 256 inputs = 8 fragments of 32. Codes: word j % 4 of the lane in half j / 4 belongs to fragment j; bits 2p,
// 2p + 1 of byte b are byte b of the fragment's word p. Scales: u32[g][t][row g, row g+8], nibble j is the
// scale of sub-block 2j + t. Minima: one word a lane, the A fragment of a 16 x 16 product of minima and sums
// of activations: nibble p and nibble 4 + p are sub-blocks 4q + 2 (p / 2) and the next in row g + 8 (p % 2).
// Then (d, dmin): f16[g][row g, row g+8][2].
DS4_TILES_FN uint32_t q2_k_word(const Source& s, uint32_t row_tile, uint32_t input_tile, uint32_t w) {
    const uint32_t row = row_tile * kRows, first = input_tile * 256;
    uint32_t word = 0;
    if (w < kQ2kScales / 4) {
        const uint32_t g = w % 128 / 16, q = w / 4 % 4, j = w / 128 * 4 + w % 4;
        for (uint32_t b = 0; b < 4; ++b) {
            for (uint32_t p = 0; p < 4; ++p) {
                const uint8_t* block = block_of(Layout::q2_k, s, row + g + 8 * (p % 2), first);
                const uint32_t e = 32 * j + 8 * q + 4 * (p / 2) + b;
                if (block != nullptr) {
                    word |= (block[16 + 32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32)) & 3u)
                            << (8 * b + 2 * p);
                }
            }
        }
        return word;
    }
    if (w < kQ2kMins / 4) {
        const uint32_t v = w - kQ2kScales / 4, t = v / 2 % 2;
        const uint8_t* block = block_of(Layout::q2_k, s, row + v / 4 + 8 * (v % 2), first);
        for (uint32_t j = 0; j < 8 && block != nullptr; ++j) word |= (block[2 * j + t] & 15u) << (4 * j);
        return word;
    }
    if (w < kQ2kD / 4) {
        const uint32_t lane = w - kQ2kMins / 4, g = lane / 4, q = lane % 4;
        for (uint32_t p = 0; p < 4; ++p) {
            const uint8_t* block = block_of(Layout::q2_k, s, row + g + 8 * (p % 2), first);
            if (block == nullptr) continue;
            const uint32_t sub = 4 * q + 2 * (p / 2);
            word |= static_cast<uint32_t>(block[sub] >> 4) << (4 * p);
            word |= static_cast<uint32_t>(block[sub + 1] >> 4) << (16 + 4 * p);
        }
        return word;
    }
    const uint32_t v = w - kQ2kD / 4;
    return pair_of_scales(Layout::q2_k, s, row + v / 2 + 8 * (v % 2), first, 80);
}

// 256 inputs = 8 fragments of 32. Codes: words 2 (j % 2) and 2 (j % 2) + 1 of the lane in quarter j / 2
// belong to fragment j; low nibbles are row g, high nibbles row g + 8. Scales and minima as packed in the
// file, word by word: u32[3][g][row g, row g+8]. Then (d, dmin) as in q2_k.
DS4_TILES_FN uint32_t q4_k_word(const Source& s, uint32_t row_tile, uint32_t input_tile, uint32_t w) {
    const uint32_t row = row_tile * kRows, first = input_tile * 256;
    if (w < kQ4kScales / 4) {
        const uint32_t g = w % 128 / 16, q = w / 4 % 4, j = w / 128 * 2 + w % 4 / 2;
        uint32_t word = 0;
        for (uint32_t b = 0; b < 4; ++b) {
            for (uint32_t half = 0; half < 2; ++half) {
                const uint8_t* block = block_of(Layout::q4_k, s, row + g + 8 * half, first);
                const uint32_t e = 32 * j + 8 * q + 4 * (w % 2) + b;
                if (block != nullptr) {
                    word |= (block[16 + 32 * (e / 64) + e % 32] >> (e % 64 / 32 * 4) & 15u)
                            << (8 * b + 4 * half);
                }
            }
        }
        return word;
    }
    if (w < kQ4kD / 4) {
        const uint32_t v = w - kQ4kScales / 4;
        return pair_of_scales(Layout::q4_k, s, row + v % 16 / 2 + 8 * (v % 2), first, 4 + 4 * (v / 16));
    }
    const uint32_t v = w - kQ4kD / 4;
    return pair_of_scales(Layout::q4_k, s, row + v / 2 + 8 * (v % 2), first, 0);
}

DS4_TILES_FN uint32_t word(Layout layout, const Source& s, uint32_t row_tile, uint32_t input_tile,
                           uint32_t w) {
    switch (layout) {
        case Layout::q8_0:
            return q8_0_word(s, row_tile, input_tile, w);
        case Layout::f16:
            return f16_word(s, row_tile, input_tile, w);
        case Layout::iq2_xxs:
            return iq2_xxs_word(s, row_tile, input_tile, w);
        case Layout::q2_k:
            return q2_k_word(s, row_tile, input_tile, w);
        case Layout::q4_k:
            return q4_k_word(s, row_tile, input_tile, w);
    }
    return 0;
}

// What the IQ2_XXS kernels look up: element j of a codebook row as nibble j, 0, 1, 2 for 8, 25, 43.
// `magnitudes` is the row as ggml writes it, one byte an element (quant::kIq2xxsGrid).
DS4_TILES_FN uint32_t iq2_selectors(uint64_t magnitudes) {
    uint32_t selectors = 0;
    for (uint32_t j = 0; j < 8; ++j) {
        selectors |= static_cast<uint32_t>((magnitudes >> (8 * j) & 255) / 17) << (4 * j);
    }
    return selectors;
}

}  // namespace ds4::gpu::tiles
