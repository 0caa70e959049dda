#pragma once

#include "backend/gpu/matrix_args.h"

// How `rows` divides matrices, for the host.
namespace ds4::gpu {

// Passes of the grid that a matrix takes with n rows of x: the 16 warps of a block work on 16 / k_split row
// tiles at a time, and on 8 columns of an F16 matrix.
inline uint32_t rows_passes(const RowsMatrix& m, uint32_t n) {
    const uint32_t row_tiles = tiles::divide_up(m.n_out, tiles::kRows) *
                               (m.output == static_cast<uint8_t>(RowsOutput::swiglu) ? 2 : 1);
    const uint32_t passes = tiles::divide_up(row_tiles, 16u / m.k_split);
    return m.layout == static_cast<uint8_t>(tiles::Layout::f16) ? passes * tiles::divide_up(n, 8) : passes;
}

// Warps that share a row tile of an (n_out, n_in) matrix; gate and up count as one of twice the rows. Enough
// that its tiles occupy the warps of a large device, but at least 512 inputs for two of them; matrices of
// several rounds are cut finer, so that the last one is short. Results that are made of two row tiles
// (swiglu, act) need both in one block: at most 8. Part of the matrix's arithmetic: its sums have this order
// on every device.
inline uint16_t rows_k_split(uint32_t n_out, uint32_t n_in, RowsOutput output) {
    const uint32_t row_tiles = tiles::divide_up(n_out, tiles::kRows);
    const uint32_t wanted = row_tiles > 4096 ? 8 * row_tiles : 2048;
    const uint32_t most = output == RowsOutput::f32 ? 16 : 8;
    uint32_t split = 1;
    while (split < most && row_tiles * split < wanted && n_in / split >= 512) split *= 2;
    return static_cast<uint16_t>(split);
}

// Sets first_pass of every matrix and n_passes.
inline void set_passes(RowsArgs& a) {
    a.n_passes = 0;
    for (uint32_t i = 0; i < a.n_matrices; ++i) {
        a.matrix[i].first_pass = a.n_passes;
        a.n_passes += rows_passes(a.matrix[i], a.n);
    }
}

}  // namespace ds4::gpu
