#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "backend/compare.h"
#include "backend/gpu/gpu_backend.h"

// Every operation of the GPU backend on the emulated device against the reference.
namespace ds4::test {
namespace {

class EmulatedOps : public testing::TestWithParam<OpCase> {};

TEST_P(EmulatedOps, AgreesWithReference) {
    const OpCase& op = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(gpu::make_emulated_device());
    for (int seed = 1; seed <= op.n_seeds && !HasFatalFailure(); ++seed) {
        compare_with_reference(op, *backend, seed);
    }
}

INSTANTIATE_TEST_SUITE_P(Gpu, EmulatedOps, testing::ValuesIn(all_cases()),
                         [](const testing::TestParamInfo<OpCase>& op) { return op.param.name; });

}  // namespace
}  // namespace ds4::test
