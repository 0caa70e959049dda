#pragma once

#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/tiles.h"

// The experts' formats as fragments of the matrix units: how a lane turns its words of a tile (tiles.h) into
// the four words of 8 fragments of 16 rows x 32 inputs, and their integer scales.
namespace ds4::gpu::cuda {

DS4_DEVICE int32_t byte_of(uint32_t word, uint32_t i) {
    return static_cast<int32_t>(permute(word, 0, 0x4440 | i));
}

// The first and second f16 of (d, dmin), rows g and g + 8.
struct TileScales {
    float d[2], dmin[2];
};
DS4_DEVICE TileScales tile_scales(const uint8_t* pairs, uint32_t lane) {
    const uint2 v = load<uint2>(pairs + lane / 4 * 8);
    return {{low_half(v.x), low_half(v.y)}, {high_half(v.x), high_half(v.y)}};
}

// ---- IQ2_XXS. Tables in shared memory give, for a byte, its word for every lane, so that look-ups never
// meet in a bank: word `lane` of the 256 bytes of an index are the selectors of a codebook row, word 32 +
// lane the signs of a sign byte as bit 2 of each nibble. Selector | signs picks the magnitudes' bytes out of
// two words.
struct Iq2Table {
    static constexpr uint32_t kBytes = 256 * 256;

    // selectors (256): tiles::iq2_selectors of the codebook. By n_warps warps; a barrier must follow.
    static DS4_DEVICE void build(uint8_t* table, const uint32_t* selectors, uint32_t warp, uint32_t n_warps,
                                 uint32_t lane) {
        for (uint32_t i = warp; i < 256; i += n_warps) {
            const uint32_t index = i >> 1;
            uint32_t signs = index | (__popc(index) & 1u) << 7;
            signs = (signs | signs << 12) & 0x000f000fu;
            signs = (signs | signs << 6) & 0x03030303u;
            signs = (signs | signs << 3) & 0x11111111u;
            auto* words = reinterpret_cast<uint32_t*>(table + i * 256);
            words[lane] = selectors[i];
            words[32 + lane] = signs << 2;
        }
    }
};

struct Iq2Tile {
    uint4 grid, signs;
    uint32_t scales[4];  // byte b of word k: 2 nu + 1 of group 2k + b / 2, row g + 8 * (b % 2)

    DS4_DEVICE void load_from(const uint8_t* tile, uint32_t lane) {
        grid = load<uint4>(tile + 16 * lane);
        signs = load<uint4>(tile + tiles::kIq2Signs + 16 * lane);
        // Lane q's spare bits are four nibbles: word q of the scales.
        constexpr uint32_t kSpare = 0x01010101u;
        uint32_t own = (signs.x & kSpare) + 2 * (signs.y & kSpare);
        own += 4 * (signs.z & kSpare) + 8 * (signs.w & kSpare);
        const uint32_t other = __shfl_xor_sync(0xffffffffu, own, 1);
        const uint32_t both = lane % 2 == 0 ? own + 16 * other : other + 16 * own;
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t pair = __shfl_sync(0xffffffffu, both, (lane & ~3u) + 2 * i);
            scales[2 * i] = (pair << 1 & 0x1e1e1e1eu) | kSpare;
            scales[2 * i + 1] = (pair >> 3 & 0x1e1e1e1eu) | kSpare;
        }
    }

    // Fragment j and the scales of its rows g and g + 8. table: Iq2Table.
    template <uint32_t j>
    DS4_DEVICE void fragment(const uint8_t* table, uint32_t lane, uint32_t (&a)[4],
                             int32_t (&scale)[2]) const {
        const uint32_t indices = j < 2 ? grid.x : j < 4 ? grid.y : j < 6 ? grid.z : grid.w;
        const uint32_t sign_bytes = j < 2 ? signs.x : j < 4 ? signs.y : j < 6 ? signs.z : signs.w;
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            constexpr uint32_t kFirst = j % 2 * 2;
            // Byte b of the word times 256, plus 4 * lane.
            const uint32_t place = 0x5504u | (kFirst + half) << 4;
            const uint32_t row = load<uint32_t>(table + permute(indices, 4 * lane, place));
            const uint32_t sign = load<uint32_t>(table + 128 + permute(sign_bytes, 4 * lane, place));
            const uint32_t select = row | sign;
            a[half] = permute(0x002b1908u, 0x00d5e7f8u, select);
            a[2 + half] = permute(0x002b1908u, 0x00d5e7f8u, select >> 16);
            scale[half] = byte_of(scales[j / 2], kFirst + half);
        }
    }
};

// ---- Q2_K. The 4-bit scale is multiplied into the codes (at most 45).
struct Q2kTile {
    uint32_t codes[8];
    uint32_t scales[2][2];  // (row g, row g+8)(even fragments, odd fragments), a byte each

    DS4_DEVICE void load_from(const uint8_t* tile, uint32_t lane) {
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            const uint4 v = load<uint4>(tile + 512 * half + 16 * lane);
            codes[4 * half] = v.x, codes[4 * half + 1] = v.y, codes[4 * half + 2] = v.z,
                      codes[4 * half + 3] = v.w;
        }
        const uint2 s = load<uint2>(tile + tiles::kQ2kScales + lane / 4 * 16 + lane % 4 / 2 * 8);
        scales[0][0] = s.x & 0x0f0f0f0fu, scales[0][1] = s.x >> 4 & 0x0f0f0f0fu;
        scales[1][0] = s.y & 0x0f0f0f0fu, scales[1][1] = s.y >> 4 & 0x0f0f0f0fu;
    }

    template <uint32_t j>
    DS4_DEVICE void fragment(uint32_t (&a)[4]) const {
#pragma unroll
        for (uint32_t p = 0; p < 4; ++p) {
            a[p] = (codes[j] >> (2 * p) & 0x03030303u) *
                   static_cast<uint32_t>(byte_of(scales[p % 2][j % 2], j / 2));
        }
    }

    // The A fragment of minima x sums, as halves.
    static DS4_DEVICE void minima(const uint8_t* tile, uint32_t lane, uint32_t (&a)[4]) {
        const uint32_t v = load<uint32_t>(tile + tiles::kQ2kMins + 4 * lane);
#pragma unroll
        for (uint32_t p = 0; p < 4; ++p) {
            // 0x6400 | n is the half 1024 + n.
            a[p] = add_halves((v >> (4 * p) & 0x000f000fu) | 0x64006400u, 0xe400e400u);
        }
    }
};

// ---- Q4_K. Codes are fragments as they are; the 6-bit scale multiplies the dot.
struct Q4kTile {
    uint32_t codes[16];
    uint32_t scales[2][2];  // (row g, row g+8)(fragments 0..3, fragments 4..7), a byte each
    uint32_t minima_[2][2];

    DS4_DEVICE void load_from(const uint8_t* tile, uint32_t lane) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint4 v = load<uint4>(tile + 512 * i + 16 * lane);
            codes[4 * i] = v.x, codes[4 * i + 1] = v.y, codes[4 * i + 2] = v.z, codes[4 * i + 3] = v.w;
        }
        const uint8_t* packed = tile + tiles::kQ4kScales + lane / 4 * 8;
        const uint2 first = load<uint2>(packed), second = load<uint2>(packed + 64),
                    third = load<uint2>(packed + 128);
        unpack(first.x, second.x, third.x, 0);
        unpack(first.y, second.y, third.y, 1);
    }

    template <uint32_t j>
    DS4_DEVICE void fragment(uint32_t (&a)[4], int32_t (&scale)[2]) const {
#pragma unroll
        for (uint32_t p = 0; p < 4; ++p) a[p] = codes[2 * j + p / 2] >> (4 * (p % 2)) & 0x0f0f0f0fu;
        scale[0] = byte_of(scales[0][j / 4], j % 4);
        scale[1] = byte_of(scales[1][j / 4], j % 4);
    }

    // Sub-blocks of 32 stand twice, as the sums are of 16.
    DS4_DEVICE void minima(uint32_t lane, uint32_t (&a)[4]) const {
#pragma unroll
        for (uint32_t p = 0; p < 4; ++p) {
            const uint32_t four = lane % 4 < 2 ? minima_[p % 2][0] : minima_[p % 2][1];
            const uint32_t i = lane % 2 * 2 + p / 2;
            a[p] = add_halves(permute(four, 0x64u, 0x4040u | i | i << 8), 0xe400e400u);
        }
    }

  private:
    DS4_DEVICE void unpack(uint32_t first, uint32_t second, uint32_t third, uint32_t half) {
        scales[half][0] = first & 0x3f3f3f3fu;
        scales[half][1] = (third & 0x0f0f0f0fu) | (first >> 2 & 0x30303030u);
        minima_[half][0] = second & 0x3f3f3f3fu;
        minima_[half][1] = (third >> 4 & 0x0f0f0f0fu) | (second >> 2 & 0x30303030u);
    }
};

}  // namespace ds4::gpu::cuda
