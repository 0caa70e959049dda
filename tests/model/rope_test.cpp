#include <gtest/gtest.h>

#include "model/config.h"

namespace ds4 {
namespace {

Config flash() {
    Config c;
    c.rope_dims = 64;
    c.rope_base = 10000;
    c.compress_rope_base = 160000;
    c.yarn_factor = 16;
    c.yarn_beta_fast = 32;
    c.yarn_beta_slow = 1;
    c.yarn_original = 65536;
    return c;
}

// Relative: the table is rounded to f32 once.
void expect_close(float got, double wanted) {
    EXPECT_NEAR(static_cast<double>(got) / wanted, 1.0, 1e-7);
}

TEST(Rope, PlainFrequenciesArePowersOfTheBase) {
    const auto f = rope_frequencies(flash(), false);
    ASSERT_EQ(f.size(), 32U);
    expect_close(f[0], 1.0);
    expect_close(f[16], 0.01);
}

// The check values of model.md 5: pairs up to 15 untouched, from 25 on divided by 16, a ramp between.
TEST(Rope, CompressedFrequenciesFollowYarn) {
    const auto f = rope_frequencies(flash(), true);
    ASSERT_EQ(f.size(), 32U);
    expect_close(f[0], 1.0);
    expect_close(f[15], 3.635538583622384e-3);
    expect_close(f[16], 2.265625e-3);
    expect_close(f[20], 2.9697777826e-4);
    expect_close(f[25], 5.3723126714e-6);
    expect_close(f[31], 5.6805290369e-7);
}

// A small original context makes the first bound negative; it is clamped to pair 0 (model.md 5).
TEST(Rope, YarnBoundsAreClamped) {
    Config c = flash();
    c.rope_dims = 16;
    c.yarn_original = 64;
    const auto f = rope_frequencies(c, true);  // low 0, high 2
    expect_close(f[0], 1.0);
    const double plain = 0.2236067977499790;  // 160000^(-2/16)
    expect_close(f[1], plain * (0.5 + 0.5 / 16));
    expect_close(f[2], 0.05 / 16);
}

}  // namespace
}  // namespace ds4
