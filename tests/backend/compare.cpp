#include "backend/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "backend/reference/reference.h"

namespace ds4::test {
namespace {

void compare(const Output& actual, const Output& expected, double least, const std::string& where) {
    ASSERT_EQ(actual.values.size(), expected.values.size()) << where;
    double squares = 0;
    double largest = 0;
    for (const float v : expected.values) {
        if (!std::isfinite(v)) continue;
        squares += static_cast<double>(v) * static_cast<double>(v);
        largest = std::max(largest, std::abs(static_cast<double>(v)));
    }
    const auto n = static_cast<double>(expected.values.size());
    Tolerance tolerance = expected.tolerance;
    tolerance.typical = std::max(tolerance.typical, least);
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

}  // namespace

std::vector<OpCase> all_cases() {
    std::vector<OpCase> cases = dense_cases();
    for (const auto& more : {history_cases(), expert_cases()})
        cases.insert(cases.end(), more.begin(), more.end());
    return cases;
}

void compare_with_reference(const OpCase& op, Backend& backend, int seed, double least) {
    const std::unique_ptr<Backend> reference = make_reference_backend();
    Random random_a(static_cast<std::uint32_t>(seed));
    Random random_b(static_cast<std::uint32_t>(seed));
    Device device_a(backend);
    Device device_b(*reference);
    const Outputs actual = op.run(device_a, random_a);
    const Outputs expected = op.run(device_b, random_b);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size() && !testing::Test::HasFatalFailure(); ++i) {
        compare(actual[i], expected[i], least,
                op.name + ", seed " + std::to_string(seed) + ", " + expected[i].name);
    }
}

}  // namespace ds4::test
