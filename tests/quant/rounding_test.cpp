#include "quant/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "quant/golden.h"

namespace ds4::quant {
namespace {

using test::bits_of;
using test::read_golden_floats;

TEST(RoundFp8, Golden) {
    auto x = read_golden_floats("rounding/fp8.in.f32");
    ASSERT_EQ(x.size(), 422 * kFp8Block);
    round_fp8(x.data(), x.size());
    EXPECT_EQ(bits_of(x), bits_of(read_golden_floats("rounding/fp8.out.f32")));
}

TEST(RoundFp4, Golden) {
    auto x = read_golden_floats("rounding/fp4.in.f32");
    ASSERT_EQ(x.size(), 420 * kFp4Block);
    round_fp4(x.data(), x.size());
    EXPECT_EQ(bits_of(x), bits_of(read_golden_floats("rounding/fp4.out.f32")));
}

TEST(Hadamard, GoldenAloneAndWithFp4) {
    auto x = read_golden_floats("rounding/hadamard_fp4.in.f32");
    ASSERT_EQ(x.size(), 200u * 128u);
    for (std::size_t row = 0; row < 200; ++row) hadamard(&x[row * 128], 128);
    EXPECT_EQ(bits_of(x), bits_of(read_golden_floats("rounding/hadamard_fp4.hadamard.f32")));
    round_fp4(x.data(), x.size());
    EXPECT_EQ(bits_of(x), bits_of(read_golden_floats("rounding/hadamard_fp4.out.f32")));
}

TEST(Hadamard, IsTheSylvesterMatrix) {
    for (const std::size_t n : {1u, 2u, 16u, 64u}) {
        for (std::size_t column = 0; column < n; ++column) {
            std::vector<float> x(n, 0.0f);
            x[column] = 1;
            hadamard(x.data(), n);
            for (std::size_t row = 0; row < n; ++row) {
                const double sign = std::popcount(row & column) % 2 == 0 ? 1 : -1;
                EXPECT_FLOAT_EQ(x[row], static_cast<float>(sign / std::sqrt(static_cast<double>(n))));
            }
        }
    }
}

// The oracle: the nearest entry of a written-out grid, ties to the entry with the even code.
struct Grid {
    std::vector<double> values;  // by code, from 0
    double amax_floor;
    std::size_t block;
};

Grid fp8_grid() {
    Grid grid{{}, static_cast<double>(1e-4f), kFp8Block};
    for (int code = 0; code <= 0x7e; ++code) {
        const int exponent = code >> 3;
        const int mantissa = code & 7;
        grid.values.push_back(exponent == 0 ? std::ldexp(mantissa, -9)
                                            : std::ldexp(8 + mantissa, exponent - 10));
    }
    return grid;
}

Grid fp4_grid() {
    return {{0, 0.5, 1, 1.5, 2, 3, 4, 6}, 6 * 0x1p-126, kFp4Block};
}

double nearest(const Grid& grid, double magnitude) {
    std::size_t best = 0;
    for (std::size_t code = 1; code < grid.values.size(); ++code) {
        const double distance = std::abs(grid.values[code] - magnitude);
        const double best_distance = std::abs(grid.values[best] - magnitude);
        if (distance < best_distance || (distance == best_distance && code % 2 == 0)) best = code;
    }
    return grid.values[best];
}

std::vector<float> round_by_search(const Grid& grid, const std::vector<float>& x) {
    std::vector<float> out(x.size());
    const auto reciprocal = static_cast<float>(1.0 / grid.values.back());
    for (std::size_t begin = 0; begin < x.size(); begin += grid.block) {
        double amax = grid.amax_floor;
        for (std::size_t i = begin; i < begin + grid.block; ++i)
            amax = std::max(amax, std::abs(double{x[i]}));
        // The quotient is one of f32 (model.md 9.1): near a power of two this decides the scale.
        const double quotient = static_cast<float>(amax) * reciprocal;
        double scale = 0x1p-140;
        while (scale < quotient) scale *= 2;
        for (std::size_t i = begin; i < begin + grid.block; ++i) {
            const double magnitude = std::min(std::abs(double{x[i]}) / scale, grid.values.back());
            out[i] = std::copysign(static_cast<float>(nearest(grid, magnitude) * scale), x[i]);
        }
    }
    return out;
}

void compare_with_search(const Grid& grid, void (*round)(float*, std::size_t), std::vector<float> x) {
    const auto expected = round_by_search(grid, x);
    round(x.data(), x.size());
    EXPECT_EQ(bits_of(x), bits_of(expected));
}

// Gaussian blocks of magnitudes from `low` to `high` powers of two.
std::vector<float> random_blocks(std::size_t block, int low, int high) {
    std::mt19937 random(7);
    std::normal_distribution<float> gauss;
    std::vector<float> x;
    for (int e = low; e <= high; ++e) {
        for (std::size_t i = 0; i < 8 * block; ++i) x.push_back(std::ldexp(gauss(random), e));
    }
    return x;
}

// Each block is led by its maximum m, next to every power of two times the grid's largest value, and holds
// points of the grid, the ties between them and the neighbours of both, of either sign.
std::vector<float> edge_blocks(const Grid& grid, int low, int high) {
    std::vector<float> points;
    for (std::size_t code = 0; code + 1 < grid.values.size(); ++code) {
        const auto tie = static_cast<float>((grid.values[code] + grid.values[code + 1]) / 2);
        points.push_back(static_cast<float>(grid.values[code]));
        for (const float end : {0.0f, tie, 1000.0f}) points.push_back(std::nextafter(tie, end));
    }
    std::vector<float> x;
    std::size_t next = 0;
    for (int e = low; e <= high; ++e) {
        const auto top = static_cast<float>(std::ldexp(grid.values.back(), e));
        for (const float amax : {std::nextafter(top, 0.0f), top, std::nextafter(top, INFINITY)}) {
            for (std::size_t filled = 0; filled < points.size(); filled += grid.block - 1) {
                x.push_back(amax);
                for (std::size_t i = 1; i < grid.block; ++i, ++next) {
                    const float point = std::ldexp(points[next % points.size()], e);
                    x.push_back(next / points.size() % 2 == 0 ? point : -point);
                }
            }
        }
    }
    return x;
}

TEST(RoundFp8, AgreesWithSearch) {
    compare_with_search(fp8_grid(), round_fp8, random_blocks(kFp8Block, -30, 100));
    compare_with_search(fp8_grid(), round_fp8, edge_blocks(fp8_grid(), -24, 20));
}

TEST(RoundFp4, AgreesWithSearch) {
    compare_with_search(fp4_grid(), round_fp4, random_blocks(kFp4Block, -130, 120));
    compare_with_search(fp4_grid(), round_fp4, edge_blocks(fp4_grid(), -20, 20));
}

TEST(RoundFp8, ScaleHasAFloor) {
    // Below 1e-4 the scale stays at 2^-22, so that values up to 2^-32 (half the smallest step) round to zero.
    std::vector<float> x(kFp8Block, 0x1p-31f);
    x[1] = 0x1p-32f;
    x[2] = -0x1p-32f;
    x[3] = std::nextafter(0x1p-32f, 1.0f);
    round_fp8(x.data(), x.size());
    EXPECT_EQ(x[0], 0x1p-31f);
    EXPECT_EQ(x[1], 0.0f);
    EXPECT_EQ(x[2], 0.0f);
    EXPECT_TRUE(std::signbit(x[2]));
    EXPECT_EQ(x[3], 0x1p-31f);
}

TEST(Rounding, NonFiniteBlocksBecomeNanAndOthersStay) {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
        std::vector<float> x(3 * kFp8Block, 1.0f);
        x[kFp8Block + 5] = bad;
        auto fp4 = x;
        round_fp8(x.data(), x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
            EXPECT_EQ(std::isnan(x[i]), i / kFp8Block == 1) << i;
        }
        round_fp4(fp4.data(), fp4.size());
        for (std::size_t i = 0; i < fp4.size(); ++i) {
            EXPECT_EQ(std::isnan(fp4[i]), i / kFp4Block == kFp8Block / kFp4Block) << i;
        }
    }
}

TEST(Rounding, LargestPowerOfTwoIsKept) {
    std::vector<float> x(kFp8Block, 0x1p127f);
    auto fp4 = x;
    round_fp8(x.data(), x.size());
    round_fp4(fp4.data(), fp4.size());
    EXPECT_EQ(x, std::vector<float>(kFp8Block, 0x1p127f));
    EXPECT_EQ(fp4, std::vector<float>(kFp8Block, 0x1p127f));
}

}  // namespace
}  // namespace ds4::quant
