#pragma once

#include "backend/gpu/kernels/act_blocks.h"
#include "backend/gpu/kernels/tile_formats.h"

// `rows` (matrix_args.h) as plain as it can be: one SIMD-group for 32 results of a row, one a lane. For
// devices without a body of their own, and what those are tested against.
namespace ds4::gpu::DS4_DIALECT {

struct RowsShared {
    SharedArray<uint32_t, kActInputs / 4> codes;
    SharedArray<float, kActInputs / 32> scales;
};

// The row of x that a thread group multiplies.
struct RowsSource {
    uint32_t row, group;
    float norm_scale;
};

DS4_FN float rows_input(DS4_ARGS RowsArgs& a, RowsSource x, uint32_t i) {
    if (i >= a.n_in) return 0;
    const float v = a.x_f32[(static_cast<int64_t>(x.row) * a.n_groups + x.group) * a.n_in + i];
    return a.input == static_cast<uint32_t>(RowsInput::norm) ? v * x.norm_scale * a.norm[i] : v;
}

DS4_FN float rows_norm_scale(Thread t, DS4_ARGS RowsArgs& a, uint32_t row) {
    if (a.input != static_cast<uint32_t>(RowsInput::norm)) return 1;
    float sum = 0;
    for (uint32_t i = t.lane; i < a.n_in; i += kSimdWidth) {
        const float v = a.x_f32[static_cast<int64_t>(row) * a.n_in + i];
        sum = fma(v, v, sum);
    }
    return 1.0f / sqrt(simd_sum(t, sum) / static_cast<float>(a.n_in) + a.eps);
}

// Block b of 256 inputs, quantised, for all lanes.
DS4_FN void stage_block(Thread t, DS4_ARGS RowsArgs& a, RowsSource x, uint32_t b, DS4_SHARED RowsShared& s) {
    simd_barrier(t);
    if (a.input == static_cast<uint32_t>(RowsInput::act)) {
        const uint32_t n_blocks = tiles::divide_up(a.n_in, kActInputs);
        const DS4_GLOBAL ActBlock& block = a.x_act[(x.row * a.n_groups + x.group) * n_blocks + b];
        for (uint32_t i = 0; i < 2; ++i) s.codes[2 * t.lane + i] = codes_of(block, 2 * t.lane + i);
        if (t.lane < 8) s.scales[t.lane] = block.scale[t.lane];
    } else {
        float v[8];
        uint32_t largest = 0;
        for (uint32_t i = 0; i < 8; ++i) {
            v[i] = rows_input(a, x, b * kActInputs + 8 * t.lane + i);
            largest = larger(largest, magnitude_bits(v[i]));
        }
        for (uint32_t mask = 1; mask < 4; mask *= 2) {
            largest = larger(largest, simd_shuffle_xor(t, largest, mask));
        }
        const Quantiser quantiser = quantiser_of(largest);
        for (uint32_t w = 0; w < 2; ++w) {
            uint32_t word = 0;
            for (uint32_t i = 0; i < 4; ++i) word |= quantiser.code(v[4 * w + i]) << (8 * i);
            s.codes[2 * t.lane + w] = word;
        }
        if (t.lane % 4 == 0) s.scales[t.lane / 4] = quantiser.scale;
    }
    simd_barrier(t);
}

// The products of row `own` of Q8_0 tiles, and of row `other` if that has tiles.
struct RowsSums {
    float own, other;
};
DS4_FN float add_q8_0(TileRow row, uint32_t g, uint32_t in_block, DS4_SHARED RowsShared& s, float sum) {
    const WeightGroup w = group_of<Q8_0Tile>(row, g);
    int32_t dot = 0;
    for (uint32_t i = 0; i < 8; ++i) dot = dot4(w.codes[i], s.codes[8 * in_block + i], dot);
    return fma(static_cast<float>(dot), w.d * s.scales[in_block], sum);
}
DS4_FN RowsSums multiply_q8_0(Thread t, DS4_ARGS RowsArgs& a, RowsSource x, TileRow own, TileRow other,
                              DS4_SHARED RowsShared& s) {
    RowsSums sums = {0, 0};
    for (uint32_t b = 0; b * kActInputs < a.n_in; ++b) {
        stage_block(t, a, x, b, s);
        for (uint32_t i = 0; i < 8 && b * kActInputs + 32 * i < a.n_in; ++i) {
            if (own.tile != nullptr) sums.own = add_q8_0(own, 8 * b + i, i, s, sums.own);
            if (other.tile != nullptr) sums.other = add_q8_0(other, 8 * b + i, i, s, sums.other);
        }
    }
    return sums;
}

DS4_FN float multiply_f16(DS4_ARGS RowsArgs& a, RowsSource x, TileRow row) {
    constexpr tiles::Shape kShape = tiles::shape(tiles::Layout::f16);
    float sum = 0;
    for (uint32_t i = 0; i < a.n_in && row.tile != nullptr; ++i) {
        const float w = f16_tile_value(row.tile + i / kShape.inputs * kShape.bytes, row.r, i % kShape.inputs);
        sum = fma(w, rows_input(a, x, i), sum);
    }
    return sum;
}

// model.md 10
DS4_FN float gated(float gate, float up, float clamp) {
    if (clamp > 1e-6f) {
        gate = gate > clamp ? clamp : gate;
        up = up > clamp ? clamp : up < -clamp ? -clamp : up;
    }
    // Beyond 88 exp overflows; silu is zero to 36 digits there.
    return gate / (1.0f + exp(-gate > 88.0f ? 88.0f : -gate)) * up;
}

// Grid: (parts of 32 of every matrix's n_out, n)
DS4_KERNEL(rows, RowsArgs, RowsShared) {
    uint32_t part = t.group, which = 0;
    while (part >= tiles::divide_up(a.matrix[which].n_out, 32)) {
        part -= tiles::divide_up(a.matrix[which++].n_out, 32);
    }
    DS4_ARGS RowsMatrix& m = a.matrix[which];
    const uint32_t row = 32 * part + t.lane;
    const uint32_t group = m.tiles_a_group == 0 ? 0 : 2 * part / m.tiles_a_group;  // even tiles a group
    const RowsSource x = {t.group_y, group, rows_norm_scale(t, a, t.group_y)};
    const auto layout = static_cast<tiles::Layout>(m.layout);
    const bool is_swiglu = m.output == static_cast<uint8_t>(RowsOutput::swiglu);
    TileRow own = {nullptr, 0}, other = {nullptr, 0};
    if (row < m.n_out) {
        const tiles::Shape shape = tiles::shape(layout);
        own = tile_row(layout, m.tiles, a.n_in, row, is_swiglu ? 2 : 1);
        if (is_swiglu) {
            other = {own.tile + tiles::divide_up(a.n_in, shape.inputs) * shape.bytes, own.r};
        }
    }
    RowsSums sums;
    if (layout == tiles::Layout::f16) {
        sums = {multiply_f16(a, x, own), multiply_f16(a, x, other)};
    } else {
        sums = multiply_q8_0(t, a, x, own, other, s);
    }
    const float v = is_swiglu ? gated(sums.own, sums.other, a.clamp) : sums.own;
    if (m.output == static_cast<uint8_t>(RowsOutput::act)) {
        store_group(t, v, m.y_act + t.group_y * (m.y_width / kActInputs), nullptr, part);
    } else if (row < m.n_out) {
        m.y[static_cast<int64_t>(t.group_y) * m.y_width + row] = v;
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
