#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/matrix_args.h"

namespace ds4::gpu::cuda {

// n_in a multiple of 256, at most 4096; n_ff a multiple of 256, at most 2048; n <= 16.
cudaError_t launch_gate_up(const GateUpArgs& a, cudaStream_t stream);
cudaError_t launch_down(const DownArgs& a, cudaStream_t stream);

cudaError_t launch_repack(const RepackArgs& a, cudaStream_t stream);

}  // namespace ds4::gpu::cuda
