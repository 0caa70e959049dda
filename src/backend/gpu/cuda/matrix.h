#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/matrix_args.h"

// The matrix families of the CUDA backend, for the host: what to launch, and when it may be. Arguments are in
// backend/gpu/matrix_args.h. Every function puts one kernel on the stream, as a dependent launch (it may
// begin while its predecessor ends), and returns what the launch says. All pointers are to device memory,
// 16-byte aligned, tiles 256-byte aligned. What a row of a result is made of depends on that row's inputs
// alone.
namespace ds4::gpu::cuda {

// ---- weights

// File order to tiles. Gate and up of a stack, or of a matrix for `swiglu`, are interleaved with tile_step 2
// and tile_first 0 and 1.
cudaError_t launch_repack(const RepackArgs& a, cudaStream_t stream);

// ---- decode: 1 .. 16 rows

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

// After set_passes. n <= 16; k_split <= 8 with outputs swiglu and act; F16 matrices have one group and read
// x_f32; tiles_a_group is a multiple of 16 / k_split. Matrices that take longest first.
cudaError_t launch_rows(const RowsArgs& a, cudaStream_t stream);

// n_in a multiple of 256, at most 4096; n_ff a multiple of 256, at most 2048; n <= 16. launch_down reads the
// list before its wait: the list is written two kernels earlier, or more.
cudaError_t launch_gate_up(const GateUpArgs& a, cudaStream_t stream);
cudaError_t launch_down(const DownArgs& a, cudaStream_t stream);

// ---- prefill: any number of rows

// f32 to halves in the order of the tiles, and what they leave. n_in a multiple of 64.
cudaError_t launch_halves(const HalvesArgs& a, cudaStream_t stream);

// Sets first_block of every matrix and n_blocks.
void set_blocks(ProductArgs& a);
// After set_blocks. n_in a multiple of 64; with halves as output y_width and the rows of a group are
// multiples of 32.
cudaError_t launch_product(const ProductArgs& a, cudaStream_t stream);

// The pairs of a batch by expert. n_experts <= kMaxExperts.
cudaError_t launch_sort(const SortArgs& a, cudaStream_t stream);

// n_in and n_ff multiples of 256.
cudaError_t launch_grouped_gate_up(const GroupedGateUpArgs& a, cudaStream_t stream);
cudaError_t launch_grouped_down(const GroupedDownArgs& a, cudaStream_t stream);
// width a multiple of 4.
cudaError_t launch_combine(const CombineArgs& a, cudaStream_t stream);

}  // namespace ds4::gpu::cuda
