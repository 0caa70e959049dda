#pragma once

#include <cuda_runtime.h>

#include <string>

#include "ds4/error.h"

namespace ds4::gpu::cuda {

// Throws DeviceError saying what could not be done and why.
inline void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // else the next call reports it again
    throw DeviceError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

}  // namespace ds4::gpu::cuda
