#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "backend/compare.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/dot.h"
#include "backend/cpu/dot_targets.h"

// Every operation of a backend against the reference, on random inputs.
namespace ds4::test {
namespace {

struct BackendUnderTest {
    std::string name;
    std::function<std::unique_ptr<Backend>()> make;
};

using Parameters = std::tuple<BackendUnderTest, OpCase>;

class Ops : public testing::TestWithParam<Parameters> {};

TEST_P(Ops, AgreesWithReference) {
    const auto& [under_test, op] = GetParam();
    const std::unique_ptr<Backend> backend = under_test.make();
    for (int seed = 1; seed <= op.n_seeds && !HasFatalFailure(); ++seed)
        compare_with_reference(op, *backend, seed);
}

std::string test_name(const testing::TestParamInfo<Parameters>& info) {
    return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(Cpu, Ops,
                         testing::Combine(testing::Values(BackendUnderTest{
                                              "cpu", [] { return make_cpu_backend(2); }}),
                                          testing::ValuesIn(all_cases())),
                         test_name);

// The CPU's kernels for other instruction sets than this machine's best.
class CpuTargets : public testing::TestWithParam<std::int64_t> {};

TEST_P(CpuTargets, AgreeWithReference) {
    const cpu::ForcedSimdTarget forced(GetParam());
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    for (const OpCase& op : all_cases()) {
        const bool large = op.n_seeds == 1;
        for (int seed = 1; seed <= 2 && !large; ++seed) {
            compare_with_reference(op, *backend, seed);
            if (HasFailure()) return;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, CpuTargets, testing::ValuesIn(cpu::simd_targets()),
                         [](const testing::TestParamInfo<std::int64_t>& target) {
                             const cpu::ForcedSimdTarget forced(target.param);
                             return std::string(cpu::simd_target());
                         });

}  // namespace
}  // namespace ds4::test
