#include <gtest/gtest.h>

#include <memory>
#include <set>
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

// Attention on matrix units takes queries and the weights of rows as halves: bench/gpu/attention_bench saw
// 4e-4 of the norm; the worst of a hundred thousand results was ten times that.
double least_tolerance(const GpuUnderTest& device, const OpCase& op) {
    return !device.is_emulated && op.name.starts_with("attention") ? 1e-2 : 0;
}

class GpuOps : public testing::TestWithParam<Parameters> {};

TEST_P(GpuOps, AgreesWithReference) {
    const auto& [device, op] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device.make());
    // Fibres take their time: fewer rounds on the emulated device.
    const int n_seeds = device.is_emulated ? std::min(op.n_seeds, 3) : op.n_seeds;
    for (int seed = 1; seed <= n_seeds && !HasFatalFailure(); ++seed) {
        compare_with_reference(op, *backend, seed, least_tolerance(device, op));
    }
}

// Rows of prompts meet other kernels where weights are in tiles. Those round x to halves, which the inputs of
// the cases are, and on matrix units weights to halves, too: 2^-12 of each product at most, with random signs
// and up to some thousand results of which the worst is looked at.
class GpuPrompts : public GpuOps {};

TEST_P(GpuPrompts, AgreeWithReference) {
    constexpr double kHalfWeights = 1e-3;
    const auto& [device, op] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device.make());
    const Segment prompt{0, 1, 0, true};
    backend->begin_rows({&prompt, 1});
    const int n_seeds = device.is_emulated ? std::min(op.n_seeds, 2) : op.n_seeds;
    for (int seed = 1; seed <= n_seeds && !HasFatalFailure(); ++seed) {
        compare_with_reference(op, *backend, seed, device.is_emulated ? 0 : kHalfWeights);
    }
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuOps,
                         testing::Combine(testing::ValuesIn(gpu_devices()), testing::ValuesIn(all_cases())),
                         [](const testing::TestParamInfo<Parameters>& op) {
                             return std::get<0>(op.param).name + "_" + std::get<1>(op.param).name;
                         });

// Products with weights in tiles and hyper-connections; all others are the same for prompts.
std::vector<OpCase> prompt_cases() {
    const std::set<std::string> names{
        "matmul_Q8_0",  "matmul_F16",    "matmul_flash_Q8_0", "grouped_matmul_tiles", "experts_flash_types",
        "experts_q4_k", "mixture_flash", "mixture_q4_k",      "mixture_q8_0",         "mixture_bf16_shared"};
    const auto has_own_kernels = [&](const OpCase& op) {
        return names.contains(op.name) || op.name.starts_with("hc_");
    };
    std::vector<OpCase> cases;
    for (const OpCase& op : all_cases()) {
        if (has_own_kernels(op)) cases.push_back(op);
    }
    return cases;
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuPrompts,
                         testing::Combine(testing::ValuesIn(gpu_devices()),
                                          testing::ValuesIn(prompt_cases())),
                         [](const testing::TestParamInfo<Parameters>& op) {
                             return std::get<0>(op.param).name + "_" + std::get<1>(op.param).name;
                         });

}  // namespace
}  // namespace ds4::test
