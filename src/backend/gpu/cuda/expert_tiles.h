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
// meet in a bank: the selectors of a codebook row; the signs of a sign byte as bit 2 of each nibble, at
// kSigns. Selector | signs picks the magnitudes' bytes out of two words.
struct Iq2Table {
    static constexpr uint32_t kWordBytes = 128, kSigns = 256 * kWordBytes, kBytes = 2 * kSigns;

    // selectors (256): tiles::iq2_selectors of the codebook. By n_warps (8 or more) warps; a barrier must
    // follow.
    static DS4_DEVICE void build(uint8_t* table, const uint32_t* selectors, uint32_t warp, uint32_t n_warps,
                                 uint32_t lane) {
        // One load a warp: lane i has what is stored in turn i.
        const uint32_t own = selectors[min(warp + lane * n_warps, 255u)];
        for (uint32_t i = warp, turn = 0; i < 256; i += n_warps, ++turn) {
            const uint32_t index = i >> 1;
            uint32_t signs = index | (__popc(index) & 1u) << 7;
            signs = (signs | signs << 12) & 0x000f000fu;
            signs = (signs | signs << 6) & 0x03030303u;
            signs = (signs | signs << 3) & 0x11111111u;
            auto* words = reinterpret_cast<uint32_t*>(table + i * kWordBytes);
            words[lane] = __shfl_sync(0xffffffffu, own, turn);
            words[kSigns / 4 + lane] = signs << 2;
        }
    }

    // Where lane `lane` finds its words.
    static DS4_DEVICE uint32_t lane_address(const uint8_t* table, uint32_t lane) {
        return shared_address(table) + 4 * lane;
    }
    // Of byte `byte` of both words: selectors | signs. The dot products are integer multiplications, whose
    // unit is idle where that of bytes and bits is not.
    template <uint32_t byte>
    static DS4_DEVICE uint32_t select(uint32_t lane_address, uint32_t indices, uint32_t signs) {
        constexpr uint32_t kPlace = kWordBytes << 8 * byte;
        return load_shared<0>(__dp4a(indices, kPlace, lane_address)) |
               load_shared<kSigns>(__dp4a(signs, kPlace, lane_address));
    }

  private:
    template <uint32_t offset>
    static DS4_DEVICE uint32_t load_shared(uint32_t address) {
        uint32_t word;
        asm("ld.shared.u32 %0, [%1 + %2];" : "=r"(word) : "r"(address), "n"(offset));
        return word;
    }
};

// The codes of a tile.
struct Iq2Codes {
    uint4 grid, signs;

    DS4_DEVICE void load_from(const uint8_t* tile, uint32_t lane) {
        grid = load<uint4>(tile + 16 * lane);
        signs = load<uint4>(tile + tiles::kIq2Signs + 16 * lane);
    }
    // Lane q's spare bits are four nibbles nu: byte b is that of group 2q + b / 2, row g + 8 * (b % 2).
    DS4_DEVICE uint32_t own_nibbles() const {
        constexpr uint32_t kSpare = 0x01010101u;
        const uint32_t low = (signs.x & kSpare) + 2 * (signs.y & kSpare);
        return low + 4 * (signs.z & kSpare) + 8 * (signs.w & kSpare);
    }
    // Fragment j. table: Iq2Table::lane_address.
    template <uint32_t j>
    DS4_DEVICE void fragment(uint32_t table, uint32_t (&a)[4]) const {
        const uint32_t indices = j < 2 ? grid.x : j < 4 ? grid.y : j < 6 ? grid.z : grid.w;
        const uint32_t sign_bytes = j < 2 ? signs.x : j < 4 ? signs.y : j < 6 ? signs.z : signs.w;
        constexpr uint32_t kFirst = j % 2 * 2;
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            const uint32_t select = half == 0 ? Iq2Table::select<kFirst>(table, indices, sign_bytes)
                                              : Iq2Table::select<kFirst + 1>(table, indices, sign_bytes);
            a[half] = permute(0x002b1908u, 0x00d5e7f8u, select);
            a[2 + half] = permute(0x002b1908u, 0x00d5e7f8u, select >> 16);
        }
    }
};

// The scales of all groups in every lane.
struct Iq2Scales {
    uint32_t word[4];  // byte b of word k: 2 nu + 1 of group 2k + b / 2, row g + 8 * (b % 2)

    DS4_DEVICE Iq2Scales(uint32_t own_nibbles, uint32_t lane) {
        // Lane q has word q.
        const uint32_t other = __shfl_xor_sync(0xffffffffu, own_nibbles, 1);
        const uint32_t both = lane % 2 == 0 ? own_nibbles + 16 * other : other + 16 * own_nibbles;
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t pair = __shfl_sync(0xffffffffu, both, (lane & ~3u) + 2 * i);
            word[2 * i] = (pair << 1 & 0x1e1e1e1eu) | 0x01010101u;
            word[2 * i + 1] = (pair >> 3 & 0x1e1e1e1eu) | 0x01010101u;
        }
    }
    // Of fragment j, row g + 8 * half.
    template <uint32_t j>
    DS4_DEVICE int32_t of(uint32_t half) const {
        return byte_of(word[j / 2], j % 2 * 2 + half);
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
