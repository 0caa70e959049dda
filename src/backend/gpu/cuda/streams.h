#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/device.h"

// Hyper-connections on an NVIDIA GPU: bodies of their own for kernels of kernel_list.h, with the same
// arguments and, up to the order of sums, the same results. They take the shapes of Flash; others run the
// shared bodies.
namespace ds4::gpu::cuda {

// Whether this launch has such a body. If so it is put on the stream, as a dependent launch, and `status` is
// what the launch says.
bool launch_streams(const Launch& launch, cudaStream_t stream, cudaError_t& status);

// The parts of it (streams_prompt.cu).
bool suits_streams(const HcExpandArgs& a);
bool suits_mixing(std::uint32_t type, std::int64_t row_bytes, std::uint32_t n_mix);
bool launch_dots(const HcDotsArgs& a, cudaStream_t stream, cudaError_t& status);
bool launch_mix(const HcMixArgs& a, std::uint32_t n, cudaStream_t stream, cudaError_t& status);

}  // namespace ds4::gpu::cuda
