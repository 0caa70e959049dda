#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "backend/gpu/gpu_backend.h"

// The GPU devices that tests run on: the emulated one always, a real one where this build and this machine
// have it.
namespace ds4::test {

struct GpuUnderTest {
    std::string name;
    std::function<std::unique_ptr<gpu::Device>()> make;
    bool is_emulated;
};

inline void PrintTo(const GpuUnderTest& gpu, std::ostream* out) {
    *out << gpu.name;
}

inline std::vector<GpuUnderTest> gpu_devices() {
    std::vector<GpuUnderTest> all{{"emulated", gpu::make_emulated_device, true}};
    if (gpu::has_cuda_device()) all.push_back({"cuda", [] { return gpu::make_cuda_device(); }, false});
    return all;
}

}  // namespace ds4::test
