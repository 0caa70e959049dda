#pragma once

#include <stdint.h>

#include "backend/gpu/args.h"

// Every kernel: name of its body in kernels/, of its argument struct (without "Args") and of its threadgroup
// memory (without "Shared"), threads of a group.
#define DS4_KERNELS(X)               \
    X(rms_norm, RmsNorm, Group, 256) \
    X(add, Add, No, 256)             \
    X(rope, Rope, No, 256)

namespace ds4::gpu {

enum class Kernel : uint32_t {
#define DS4_KERNEL_ID(name, args, shared, threads) name,
    DS4_KERNELS(DS4_KERNEL_ID)
#undef DS4_KERNEL_ID
};

#define DS4_KERNEL_CHECK(name, args, shared, threads) static_assert(sizeof(args##Args) <= kArgsBytes);
DS4_KERNELS(DS4_KERNEL_CHECK)
#undef DS4_KERNEL_CHECK

}  // namespace ds4::gpu
