#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/device.h"

// The indexer's scores on the matrix units of an NVIDIA GPU and its selection: bodies of their own for
// kernels of kernel_list.h, with the same arguments. They score the shapes of Flash with rows stored as FP4;
// others run the shared bodies.
namespace ds4::gpu::cuda {

// Whether this launch has such a body. If so it is put on the stream, as a dependent launch, and `status` is
// what the launch says.
bool launch_indexer(const Launch& launch, cudaStream_t stream, cudaError_t& status);

}  // namespace ds4::gpu::cuda
