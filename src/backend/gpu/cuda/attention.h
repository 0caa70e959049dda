#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/device.h"

// Attention on the matrix units of an NVIDIA GPU: bodies of their own for kernels of kernel_list.h, with the
// same arguments and, up to the rounding that attention.cu states, the same results. They take the shapes of
// Flash; others run the shared bodies.
namespace ds4::gpu::cuda {

// Whether this launch has such a body. If so it is put on the stream, as a dependent launch, and `status` is
// what the launch says.
bool launch_attention(const Launch& launch, cudaStream_t stream, cudaError_t& status);

}  // namespace ds4::gpu::cuda
