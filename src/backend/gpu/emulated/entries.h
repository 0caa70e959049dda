#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/gpu/emulated/thread_group.h"
#include "backend/gpu/kernel_list.h"

namespace ds4::gpu::emulated {

struct Entry {
    const char* name;
    std::uint32_t n_threads;   // of a group
    std::size_t shared_bytes;  // threadgroup memory
    void (*body)(const Thread& t, const void* args, void* shared);
};

Entry entry(gpu::Kernel kernel);

}  // namespace ds4::gpu::emulated
