#pragma once

#include "backend/gpu/kernels/tile_formats.h"
#include "backend/gpu/kernels/tile_rows.h"
#include "backend/gpu/matrix_args.h"

// The products of prefill and what stands around them (matrix_args.h), plain: one SIMD-group for 32 results
// of a row or a pair, one a lane. For devices without bodies of their own, and what those are tested against.
namespace ds4::gpu::DS4_DIALECT {

constexpr float kLowHalfStep = 0x1p-11f;  // of HalvesArgs::low

DS4_FN float half_value(uint16_t bits) {
    return f16_to_f32(bits);
}

// Grid: (n)
DS4_KERNEL(halves, HalvesArgs, NoShared) {
    for (uint32_t i = t.lane; i < a.n_in; i += kSimdWidth) {
        const int64_t row = static_cast<int64_t>(t.group) * a.n_in;
        const float x = a.x[row + i];
        const uint16_t high = f32_to_f16(x);
        a.high[row + tiles::half_place(i)] = high;
        if (a.low != nullptr)
            a.low[row + tiles::half_place(i)] = f32_to_f16((x - half_value(high)) * 2048.0f);
    }
}

// A row of halves, and what they leave; low null: nothing.
struct HalfRow {
    const DS4_GLOBAL uint16_t* high;
    const DS4_GLOBAL uint16_t* low;

    DS4_FN float operator[](uint32_t i) const {
        const uint32_t place = tiles::half_place(i);
        const float v = half_value(high[place]);
        return low == nullptr ? v : fma(half_value(low[place]), kLowHalfStep, v);
    }
};

template <class Tile>
DS4_FN float multiply_halves(TileRow row, HalfRow x, uint32_t n_in) {
    float sum = 0;
    for (uint32_t g = 0; g < n_in / 32; ++g) {
        const WeightGroup w = group_of<Tile>(row, g);
        for (uint32_t i = 0; i < 32; ++i) sum = fma(value_of<Tile>(w, i), x[32 * g + i], sum);
    }
    return sum;
}
DS4_FN float multiply_halves(tiles::Layout layout, TileRow row, HalfRow x, uint32_t n_in) {
    switch (layout) {
        case tiles::Layout::iq2_xxs:
            return multiply_halves<Iq2XxsTile>(row, x, n_in);
        case tiles::Layout::q2_k:
            return multiply_halves<Q2KTile>(row, x, n_in);
        case tiles::Layout::q4_k:
            return multiply_halves<Q4KTile>(row, x, n_in);
        case tiles::Layout::q8_0:
            return multiply_halves<Q8_0Tile>(row, x, n_in);
        case tiles::Layout::f16:
            break;
    }
    constexpr tiles::Shape kShape = tiles::shape(tiles::Layout::f16);
    float sum = 0;
    for (uint32_t i = 0; i < n_in; ++i) {
        const float w = f16_tile_value(row.tile + i / kShape.inputs * kShape.bytes, row.r, i % kShape.inputs);
        sum = fma(w, x[i], sum);
    }
    return sum;
}

// Gate and up of row `row` of interleaved tiles.
DS4_FN float gated_halves(tiles::Layout layout, const DS4_GLOBAL uint8_t* tiles, uint32_t row, HalfRow x,
                          uint32_t n_in, float clamp) {
    const tiles::Shape shape = tiles::shape(layout);
    const TileRow gate = tile_row(layout, tiles, n_in, row, 2);
    const TileRow up = {gate.tile + tiles::divide_up(n_in, shape.inputs) * shape.bytes, gate.r};
    return gated(multiply_halves(layout, gate, x, n_in), multiply_halves(layout, up, x, n_in), clamp);
}

// Grid: (parts of 32 of every matrix's n_out, n)
DS4_KERNEL(product, ProductArgs, NoShared) {
    uint32_t part = t.group, which = 0;
    while (part >= tiles::divide_up(a.matrix[which].n_out, 32)) {
        part -= tiles::divide_up(a.matrix[which++].n_out, 32);
    }
    DS4_ARGS ProductMatrix& m = a.matrix[which];
    const uint32_t row = 32 * part + t.lane;
    if (row >= m.n_out) return;
    const uint32_t group = m.tiles_a_group == 0 ? 0 : 2 * part / m.tiles_a_group;  // even tiles a group
    const int64_t first = (static_cast<int64_t>(t.group_y) * a.n_groups + group) * a.n_in;
    const HalfRow x = {a.x + first, m.whole_x != 0 ? a.x_low + first : nullptr};
    const auto layout = static_cast<tiles::Layout>(m.layout);
    const int64_t to = static_cast<int64_t>(t.group_y) * m.y_width;
    if (m.output == static_cast<uint8_t>(ProductOutput::swiglu_halves)) {
        m.y_halves[to + tiles::half_place(row)] =
            f32_to_f16(gated_halves(layout, m.tiles, row, x, a.n_in, a.clamp));
        return;
    }
    const float v = multiply_halves(layout, tile_row(layout, m.tiles, a.n_in, row, 1), x, a.n_in);
    if (m.output == static_cast<uint8_t>(ProductOutput::halves)) {
        m.y_halves[to + tiles::half_place(row)] = f32_to_f16(v);
    } else {
        m.y[to + row] = v;
    }
}

// Grid: (1). A lane per expert.
DS4_KERNEL(sort, SortArgs, NoShared) {
    for (uint32_t e = t.lane; e <= a.n_experts; e += kSimdWidth) {
        int32_t at = 0;  // pairs of lower experts; a negative one is none of them
        for (uint32_t i = 0; i < a.n_pairs; ++i) at += static_cast<uint32_t>(a.expert[i]) < e ? 1 : 0;
        a.first[e] = at;
        for (uint32_t i = 0; i < a.n_pairs && e < a.n_experts; ++i) {
            if (static_cast<uint32_t>(a.expert[i]) == e) a.pair[at++] = static_cast<int32_t>(i);
        }
    }
}

// The expert that the sorted pair i belongs to; first as in SortArgs.
DS4_FN uint32_t expert_at(const DS4_GLOBAL int32_t* first, int32_t i) {
    uint32_t e = 0;
    while (first[e + 1] <= i) ++e;
    return e;
}

// Grid: (pairs, parts of 32 of n_ff)
DS4_KERNEL(grouped_gate_up, GroupedGateUpArgs, NoShared) {
    const auto i = static_cast<int32_t>(t.group);
    if (i >= a.first[a.n_experts]) return;
    const uint32_t row = 32 * t.group_y + t.lane;
    const auto pair = static_cast<uint32_t>(a.pair[i]);
    const HalfRow x = {a.x + static_cast<int64_t>(pair / a.n_used) * a.n_in, nullptr};
    const float v = gated_halves(static_cast<tiles::Layout>(a.layout),
                                 a.tiles + expert_at(a.first, i) * a.expert_bytes, row, x, a.n_in, a.clamp);
    a.act[static_cast<int64_t>(i) * a.n_ff + tiles::half_place(row)] = f32_to_f16(v * a.weight[pair]);
}

// Grid: (pairs, parts of 32 of n_out)
DS4_KERNEL(grouped_down, GroupedDownArgs, NoShared) {
    const auto i = static_cast<int32_t>(t.group);
    const uint32_t row = 32 * t.group_y + t.lane;
    if (i >= a.first[a.n_experts] || row >= a.n_out) return;
    const auto layout = static_cast<tiles::Layout>(a.layout);
    const HalfRow act = {a.act + static_cast<int64_t>(i) * a.n_ff, nullptr};
    const TileRow w = tile_row(layout, a.tiles + expert_at(a.first, i) * a.expert_bytes, a.n_ff, row, 1);
    a.y[static_cast<int64_t>(a.pair[i]) * a.n_out + row] = multiply_halves(layout, w, act, a.n_ff);
}

// Grid: (n)
DS4_KERNEL(combine, CombineArgs, NoShared) {
    for (uint32_t i = t.lane; i < a.width; i += kSimdWidth) {
        const DS4_GLOBAL float* slots = a.slots + static_cast<int64_t>(t.group) * a.n_used * a.width + i;
        float sum = slots[0];
        for (uint32_t k = 1; k < a.n_used; ++k) sum += slots[static_cast<int64_t>(k) * a.width];
        const int64_t at = static_cast<int64_t>(t.group) * a.width + i;
        a.y[at] = a.shared == nullptr ? sum : sum + a.shared[at];
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
