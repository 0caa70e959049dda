#pragma once

#include <cstdint>

namespace ds4 {

// What the model runs on.
enum class BackendKind : std::uint8_t {
    automatic,  // cuda if this build and this machine have it, else cpu
    cpu,
    cuda,
    emulated,   // the GPU's kernels on the CPU: slow, for people who write them
    reference,  // the oracle: slower
};

}  // namespace ds4
