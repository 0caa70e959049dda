// The vectorised rounding against quant's, bit for bit.
#include "backend/cpu/rounding_kernel.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cpu/dot_targets.h"
#include "backend/device.h"
#include "quant/rounding.h"

namespace ds4::test {
namespace {

// Blocks of all sizes; ties, zeroes of both signs, a NaN and an infinity among them.
std::vector<float> inputs(std::size_t n) {
    Random random(17);
    std::vector<float> x = random.gaussian(static_cast<std::int64_t>(n));
    for (std::size_t b = 0; b < n; b += 32) {
        const float scale = std::ldexp(1.0F, static_cast<int>(random.integer(-140, 120)));
        for (std::size_t i = b; i < b + 32; ++i) x[i] *= scale;
    }
    for (std::size_t i = 0; i < 64; ++i) x[i] = static_cast<float>(i) * (i % 2 == 0 ? 0.25F : -0.25F);
    x[70] = -0.0F;
    x[n / 2] = std::numeric_limits<float>::quiet_NaN();
    x[n - 1] = std::numeric_limits<float>::infinity();
    return x;
}

void expect_same(const std::vector<float>& actual, const std::vector<float>& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (std::isnan(expected[i])) {
            ASSERT_TRUE(std::isnan(actual[i])) << i;
        } else {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(actual[i]), std::bit_cast<std::uint32_t>(expected[i]))
                << i << ": " << actual[i] << ", not " << expected[i];
        }
    }
}

class RoundingKernel : public testing::TestWithParam<std::int64_t> {
  protected:
    cpu::ForcedSimdTarget forced_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, RoundingKernel, testing::ValuesIn(cpu::simd_targets()));

TEST_P(RoundingKernel, Fp8) {
    std::vector<float> actual = inputs(64 * 200);
    std::vector<float> expected = actual;
    cpu::round_fp8(actual.data(), actual.size());
    quant::round_fp8(expected.data(), expected.size());
    expect_same(actual, expected);
}

TEST_P(RoundingKernel, HadamardAndFp4) {
    for (const std::size_t n : {32U, 64U, 128U, 512U}) {
        std::vector<float> actual = inputs(512 * 20);
        std::vector<float> expected = actual;
        for (std::size_t i = 0; i < actual.size(); i += n) {
            cpu::round_hadamard_fp4(actual.data() + i, n);
            quant::hadamard(expected.data() + i, n);
            quant::round_fp4(expected.data() + i, n);
        }
        expect_same(actual, expected);
        if (HasFatalFailure()) return;
    }
}

}  // namespace
}  // namespace ds4::test
