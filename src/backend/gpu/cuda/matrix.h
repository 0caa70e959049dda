#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/matrix_args.h"
#include "backend/gpu/matrix_plan.h"

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

// After set_passes (matrix_plan.h). n <= 16; k_split <= 8 with outputs swiglu and act; F16 matrices have one
// group and read x_f32; tiles_a_group is a multiple of 16 / k_split. Matrices that take longest first.
cudaError_t launch_rows(const RowsArgs& a, cudaStream_t stream);

// n_in a multiple of 256, at most 4096; n_ff a multiple of 256, at most 2048; n <= 16. launch_down reads the
// list before its wait: the list is written two kernels earlier, or more.
cudaError_t launch_gate_up(const GateUpArgs& a, cudaStream_t stream);
cudaError_t launch_down(const DownArgs& a, cudaStream_t stream);

// ---- prefill: any number of rows

// f32 to halves in the order of the tiles, and what they leave. n_in a multiple of 64.
cudaError_t launch_halves(const HalvesArgs& a, cudaStream_t stream);

// n_in a multiple of 64; with halves as output y_width and the rows of a group are
// multiples of 32.
cudaError_t launch_product(const ProductArgs& a, cudaStream_t stream);

// The pairs of a batch by expert. n_experts <= kMaxSortedExperts.
cudaError_t launch_sort(const SortArgs& a, cudaStream_t stream);

// n_in and n_ff multiples of 256.
cudaError_t launch_grouped_gate_up(const GroupedGateUpArgs& a, cudaStream_t stream);
cudaError_t launch_grouped_down(const GroupedDownArgs& a, cudaStream_t stream);
// width a multiple of 4.
cudaError_t launch_combine(const CombineArgs& a, cudaStream_t stream);

}  // namespace ds4::gpu::cuda
