#pragma once

#include <cstdint>

#include "backend/gpu/kernel_list.h"

namespace ds4::gpu::cuda {

struct Entry {
    const char* name;
    std::uint32_t n_threads;  // of a group
    const void* function;     // for cudaLaunchKernel
};

Entry entry(Kernel kernel);

}  // namespace ds4::gpu::cuda
