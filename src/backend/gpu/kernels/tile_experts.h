#pragma once

#include "backend/gpu/kernels/act_blocks.h"
#include "backend/gpu/kernels/tile_formats.h"
#include "backend/gpu/kernels/tile_rows.h"

// The experts' products of decode (matrix_args.h), plain: one SIMD-group for 32 results of a pair or a row,
// one a lane. For devices without bodies of their own, and what those are tested against.
namespace ds4::gpu::DS4_DIALECT {

// A weight row times a row of activations in blocks.
template <class Tile>
DS4_FN float multiply_blocks(TileRow row, const DS4_GLOBAL ActBlock* x, const DS4_GLOBAL float* sums,
                             uint32_t n_in) {
    float total = 0;
    for (uint32_t g = 0; g < n_in / 32; ++g) {
        const WeightGroup w = group_of<Tile>(row, g);
        int32_t dot = 0;
        for (uint32_t i = 0; i < 8; ++i) dot = dot4(w.codes[i], codes_of(x[g / 8], g % 8 * 8 + i), dot);
        total = fma(static_cast<float>(dot * w.factor), w.d * x[g / 8].scale[g % 8], total);
        if (!Tile::kHasMinimum) continue;
        for (uint32_t half = 0; half < 2; ++half) {
            total = fma(-w.dmin * static_cast<float>(w.minimum[half]), sums[2 * g + half], total);
        }
    }
    return total;
}
DS4_FN float multiply_blocks(tiles::Layout layout, TileRow row, const DS4_GLOBAL ActBlock* x,
                             const DS4_GLOBAL float* sums, uint32_t n_in) {
    switch (layout) {
        case tiles::Layout::iq2_xxs:
            return multiply_blocks<Iq2XxsTile>(row, x, sums, n_in);
        case tiles::Layout::q2_k:
            return multiply_blocks<Q2KTile>(row, x, sums, n_in);
        case tiles::Layout::q4_k:
            return multiply_blocks<Q4KTile>(row, x, sums, n_in);
        default:
            return multiply_blocks<Q8_0Tile>(row, x, sums, n_in);
    }
}

// Grid: (n * n_used entries at most, n_ff / 32)
DS4_KERNEL(gate_up, GateUpArgs, NoShared) {
    const uint32_t ff_blocks = a.n_ff / kActInputs, row = 32 * t.group_y + t.lane;
    if (t.group == 0 && a.shared_f32 != nullptr) {
        for (uint32_t r = 0; r < a.n; ++r) {
            const float v = a.shared_f32[static_cast<int64_t>(r) * a.n_ff + row];
            store_group(t, v, a.shared_act + r * ff_blocks, nullptr, t.group_y);
        }
    }
    if (t.group >= static_cast<uint32_t>(a.list->n_entries)) return;
    const DS4_GLOBAL ExpertEntry& entry = a.list->entry[t.group];
    const auto layout = static_cast<tiles::Layout>(a.layout);
    const tiles::Shape shape = tiles::shape(layout);
    const DS4_GLOBAL uint8_t* expert = a.tiles + static_cast<uint32_t>(entry.expert) * a.expert_bytes;
    const TileRow gate = tile_row(layout, expert, a.n_in, row, 2);
    const TileRow up = {gate.tile + a.n_in / shape.inputs * shape.bytes, gate.r};
    for (int32_t i = 0; i < entry.n; ++i) {
        const auto pair = static_cast<uint32_t>(entry.pair[i]);
        const uint32_t r = pair / a.n_used;
        const DS4_GLOBAL ActBlock* x = a.x + r * (a.n_in / kActInputs);
        const DS4_GLOBAL float* sums = a.x_sums + r * (a.n_in / kSumInputs);
        const float v = gated(multiply_blocks(layout, gate, x, sums, a.n_in),
                              multiply_blocks(layout, up, x, sums, a.n_in), a.clamp) *
                        a.weight[pair];
        store_group(t, v, a.act + pair * ff_blocks, a.act_sums + pair * (a.n_ff / kSumInputs), t.group_y);
    }
}

// The expert of a pair; negative: none.
DS4_FN int32_t expert_of(const DS4_GLOBAL ExpertList& list, int32_t pair) {
    for (int32_t e = 0; e < list.n_entries; ++e) {
        const DS4_GLOBAL ExpertEntry& entry = list.entry[e];
        for (int32_t i = 0; i < entry.n; ++i) {
            if (entry.pair[i] == pair) return entry.expert;
        }
    }
    return -1;
}

// Grid: (n, parts of 32 of n_out)
DS4_KERNEL(down, DownArgs, NoShared) {
    const uint32_t row = 32 * t.group_y + t.lane;
    if (row >= a.n_out) return;
    const auto layout = static_cast<tiles::Layout>(a.layout);
    const uint32_t blocks = a.n_ff / kActInputs, sums = a.n_ff / kSumInputs;
    float y = 0;
    for (uint32_t k = 0; k < a.n_used; ++k) {
        const uint32_t pair = t.group * a.n_used + k;
        const int32_t expert = expert_of(*a.list, static_cast<int32_t>(pair));
        if (expert < 0) continue;
        const TileRow w =
            tile_row(layout, a.tiles + static_cast<uint32_t>(expert) * a.expert_bytes, a.n_ff, row, 1);
        y += multiply_blocks(layout, w, a.act + pair * blocks, a.act_sums + pair * sums, a.n_ff);
    }
    if (a.shared_tiles != nullptr) {
        const TileRow w = tile_row(tiles::Layout::q8_0, a.shared_tiles, a.n_ff, row, 1);
        y += multiply_blocks<Q8_0Tile>(w, a.shared_act + t.group * blocks, nullptr, a.n_ff);
    }
    a.y[static_cast<int64_t>(t.group) * a.n_out + row] = y;
}

}  // namespace ds4::gpu::DS4_DIALECT
