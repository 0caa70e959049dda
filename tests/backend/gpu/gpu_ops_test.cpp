#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "backend/compare.h"
#include "backend/gpu/devices.h"

// Every operation of the GPU backend against the reference.
namespace ds4::test {
namespace {

TEST(Cuda, IsThere) {
    if (!gpu::has_cuda_device()) {
        GTEST_SKIP() << "no NVIDIA GPU, or a build without CUDA: only the emulated device is tested";
    }
    EXPECT_GT(gpu::make_cuda_device()->memory()->free, 0);
}

using Parameters = std::tuple<GpuUnderTest, OpCase>;

class GpuOps : public testing::TestWithParam<Parameters> {};

TEST_P(GpuOps, AgreesWithReference) {
    const auto& [device, op] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device.make());
    // Fibres take their time: fewer rounds on the emulated device.
    const int n_seeds = device.is_emulated ? std::min(op.n_seeds, 3) : op.n_seeds;
    for (int seed = 1; seed <= n_seeds && !HasFatalFailure(); ++seed) {
        compare_with_reference(op, *backend, seed);
    }
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuOps,
                         testing::Combine(testing::ValuesIn(gpu_devices()), testing::ValuesIn(all_cases())),
                         [](const testing::TestParamInfo<Parameters>& op) {
                             return std::get<0>(op.param).name + "_" + std::get<1>(op.param).name;
                         });

}  // namespace
}  // namespace ds4::test
