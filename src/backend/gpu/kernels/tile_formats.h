#pragma once

#include "backend/gpu/kernels/formats.h"
#include "backend/gpu/tiles.h"

// Weights in tiles (tiles.h), read back: group g of 32 inputs of row r of a tile, as formats.h gives those of
// the file.
namespace ds4::gpu::DS4_DIALECT {

// Byte offset of lane (r, q)'s 16 bytes, and which of its two rows r is.
DS4_FN uint32_t lane_bytes(uint32_t r, uint32_t q) {
    return 16 * (r % 8 * 4 + q);
}
DS4_FN uint32_t half_of(uint32_t r) {
    return r / 8;
}

struct Q8_0Tile {
    static constexpr tiles::Layout kLayout = tiles::Layout::q8_0;
    static constexpr bool kHasMinimum = false;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t g) {
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 8; ++i) {
            w.codes[i] = load_u32(tile + 512 * g + lane_bytes(r, i / 2) + 8 * (i % 2) + 4 * half_of(r));
        }
        w.factor = 1;
        w.d = load_f16(tile + tiles::kQ8Scales + 4 * (r % 8 * 4 + g) + 2 * half_of(r));
        return w;
    }
};

struct Iq2XxsTile {
    static constexpr tiles::Layout kLayout = tiles::Layout::iq2_xxs;
    static constexpr bool kHasMinimum = false;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t g) {
        constexpr uint32_t kMagnitudes = 0x002b1908u;
        const DS4_GLOBAL uint8_t* signs_of = tile + tiles::kIq2Signs;
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t q = 0; q < 4; ++q) {
            const uint32_t at = lane_bytes(r, q) + 2 * g + half_of(r);
            const uint32_t codes = kIq2Codes[tile[at]];
            const uint32_t index = signs_of[at] >> 1;
            const uint32_t signs = index | (popcount(index) & 1) << 7;
            w.codes[2 * q] = apply_signs(permute_bytes(kMagnitudes, 0, spread_pairs(codes & 255)), signs);
            w.codes[2 * q + 1] =
                apply_signs(permute_bytes(kMagnitudes, 0, spread_pairs(codes >> 8)), signs >> 4);
        }
        uint32_t scale = 0;
        for (uint32_t k = 0; k < 4; ++k) {
            scale |= (signs_of[lane_bytes(r, g / 2) + 4 * k + 2 * (g % 2) + half_of(r)] & 1u) << k;
        }
        w.factor = static_cast<int32_t>(2 * scale + 1);
        w.d = load_f16(tile + tiles::kIq2D + 4 * (r % 8) + 2 * half_of(r)) * 0.125f;
        return w;
    }
};

struct Q2KTile {
    static constexpr tiles::Layout kLayout = tiles::Layout::q2_k;
    static constexpr bool kHasMinimum = true;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t g) {
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t q = i / 2, p = 2 * (i % 2) + half_of(r);
            const uint32_t packed = load_u32(tile + 512 * (g / 4) + lane_bytes(r, q) + 4 * (g % 4));
            const uint32_t scales =
                load_u32(tile + tiles::kQ2kScales + 16 * (r % 8) + 8 * (q / 2) + 4 * half_of(r));
            w.codes[i] = (packed >> (2 * p) & 0x03030303u) * (scales >> (4 * g) & 15);
        }
        DS4_UNROLL
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t sub = 2 * g + i;
            const uint32_t minima = load_u32(tile + tiles::kQ2kMins + 4 * (r % 8 * 4 + sub / 4));
            const uint32_t shift = 16 * (sub % 2) + 4 * (sub % 4 / 2 * 2 + half_of(r));
            w.minimum[i] = static_cast<int32_t>(minima >> shift & 15);
        }
        const DS4_GLOBAL uint8_t* d = tile + tiles::kQ2kD + 8 * (r % 8) + 4 * half_of(r);
        w.factor = 1;
        w.d = load_f16(d);
        w.dmin = load_f16(d + 2);
        return w;
    }
};

struct Q4KTile {
    static constexpr tiles::Layout kLayout = tiles::Layout::q4_k;
    static constexpr bool kHasMinimum = true;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t g) {
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t packed =
                load_u32(tile + 512 * (g / 2) + lane_bytes(r, i / 2) + 8 * (g % 2) + 4 * (i % 2));
            w.codes[i] = packed >> (4 * half_of(r)) & 0x0f0f0f0fu;
        }
        w.factor = static_cast<int32_t>(scale_or_minimum(tile, r, g, 0));
        w.minimum[0] = w.minimum[1] = static_cast<int32_t>(scale_or_minimum(tile, r, g, 1));
        const DS4_GLOBAL uint8_t* d = tile + tiles::kQ4kD + 8 * (r % 8) + 4 * half_of(r);
        w.d = load_f16(d);
        w.dmin = load_f16(d + 2);
        return w;
    }

  private:
    // q4_k_scale of formats.h; the three words of a row's scales lie 64 bytes apart.
    static DS4_FN uint32_t scale_or_minimum(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t g,
                                            uint32_t which) {
        const DS4_GLOBAL uint8_t* packed = tile + tiles::kQ4kScales + 8 * (r % 8) + 4 * half_of(r);
        const uint32_t first = packed[64 * which + g % 4];
        if (g < 4) return first & 63;
        return (packed[128 + g % 4] >> (4 * which) & 15) | (first >> 2 & 48);
    }
};

// Input i of row r of a tile of halves.
DS4_FN float f16_tile_value(const DS4_GLOBAL uint8_t* tile, uint32_t r, uint32_t i) {
    const uint32_t in_lane = i % 8;
    return load_f16(tile + 1024 * (i / 32) + 512 * (in_lane / 4) + lane_bytes(r, i % 32 / 8) +
                    8 * (in_lane % 4 / 2) + 4 * half_of(r) + 2 * (i % 2));
}

// Value i of a group, as quant::Format::decode gives it.
template <class Tile>
DS4_FN float value_of(const DS4_LOCAL WeightGroup& w, uint32_t i) {
    const int32_t code = static_cast<int8_t>(w.codes[i / 4] >> (8 * (i % 4)));
    const float value = w.d * static_cast<float>(w.factor * code);
    return Tile::kHasMinimum ? value - w.dmin * static_cast<float>(w.minimum[i / 16]) : value;
}

// A row of a matrix in tiles: its first tile, and its place in it.
struct TileRow {
    const DS4_GLOBAL uint8_t* tile;
    uint32_t r;
};
// Row `row` of the matrix whose row tile t is row tile t * step of `tiles`.
DS4_FN TileRow tile_row(tiles::Layout layout, const DS4_GLOBAL uint8_t* tiles, uint32_t n_in, uint32_t row,
                        uint32_t step) {
    const tiles::Shape shape = tiles::shape(layout);
    const uint64_t row_tile = static_cast<uint64_t>(row / tiles::kRows) * step;
    return {tiles + row_tile * tiles::divide_up(n_in, shape.inputs) * shape.bytes, row % tiles::kRows};
}
// Group g of 32 inputs of the row.
template <class Tile>
DS4_FN WeightGroup group_of(TileRow row, uint32_t g) {
    constexpr tiles::Shape kShape = tiles::shape(Tile::kLayout);
    return Tile::group(row.tile + g / (kShape.inputs / 32) * kShape.bytes, row.r, g % (kShape.inputs / 32));
}

}  // namespace ds4::gpu::DS4_DIALECT
