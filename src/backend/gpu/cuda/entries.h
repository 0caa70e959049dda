#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/gpu/kernel_list.h"

namespace ds4::gpu::cuda {

// How a kernel is started: a shared body with the launch's grid, or by a function of matrix.h.
struct Entry {
    const char* name;
    std::uint32_t n_threads;  // of a group
    const void* function;     // for cudaLaunchKernel; null: launch
    cudaError_t (*launch)(const void* args, cudaStream_t stream);
};

Entry entry(Kernel kernel);

}  // namespace ds4::gpu::cuda
