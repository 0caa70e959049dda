#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/dot.h"
#include "backend/cpu/dot_targets.h"
#include "backend/op_cases.h"
#include "backend/reference/reference.h"

// Every operation of a backend against the reference, on random inputs.
namespace ds4::test {
namespace {

struct BackendUnderTest {
    std::string name;
    std::function<std::unique_ptr<Backend>()> make;
};

std::vector<OpCase> all_cases() {
    std::vector<OpCase> cases = dense_cases();
    for (const auto& more : {history_cases(), expert_cases()})
        cases.insert(cases.end(), more.begin(), more.end());
    return cases;
}

void compare(const Output& actual, const Output& expected, const std::string& where) {
    ASSERT_EQ(actual.values.size(), expected.values.size()) << where;
    double squares = 0;
    double largest = 0;
    for (const float v : expected.values) {
        if (!std::isfinite(v)) continue;
        squares += static_cast<double>(v) * static_cast<double>(v);
        largest = std::max(largest, std::abs(static_cast<double>(v)));
    }
    const auto n = static_cast<double>(expected.values.size());
    const Tolerance& tolerance = expected.tolerance;
    const double typical = tolerance.typical * std::sqrt(squares / std::max(1.0, n));
    double flips = 0;
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
        const float a = actual.values[i];
        const float e = expected.values[i];
        // Larger values may be off by the same share.
        const double allowed = std::max(typical, tolerance.typical * std::abs(static_cast<double>(e)));
        const double off = a == e ? 0 : std::abs(static_cast<double>(a) - static_cast<double>(e));
        if (off <= allowed) continue;
        ASSERT_LE(off, tolerance.flip_size * largest) << where << "[" << i << "] is " << a << ", not " << e;
        ++flips;
    }
    EXPECT_LE(flips, std::ceil(tolerance.flips * n)) << where;
}

// Runs a case on the same inputs on both.
void compare_with_reference(const OpCase& op, Backend& backend, int seed) {
    const std::unique_ptr<Backend> reference = make_reference_backend();
    Random random_a(static_cast<std::uint32_t>(seed));
    Random random_b(static_cast<std::uint32_t>(seed));
    Device device_a(backend);
    Device device_b(*reference);
    const Outputs actual = op.run(device_a, random_a);
    const Outputs expected = op.run(device_b, random_b);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size() && !testing::Test::HasFatalFailure(); ++i) {
        compare(actual[i], expected[i], op.name + ", seed " + std::to_string(seed) + ", " + expected[i].name);
    }
}

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
