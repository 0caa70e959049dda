#include "synth/random_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace ds4::synth {
namespace {

using quant::Type;

std::vector<std::byte> filled(Type type, double mean, double deviation, std::size_t n,
                              std::uint64_t seed = 1) {
    std::vector<std::byte> blocks(quant::row_bytes(quant::format(type), n));
    RandomBlocks(type, mean, deviation).fill(blocks, Random(seed));
    return blocks;
}

struct Moments {
    double mean, deviation;
};

Moments moments_of(Type type, const std::vector<std::byte>& blocks, std::size_t n) {
    std::vector<float> values(n);
    quant::format(type).decode(blocks.data(), values.data(), n);
    double sum = 0, squares = 0;
    for (const float v : values) {
        sum += static_cast<double>(v);
        squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const double mean = sum / static_cast<double>(n);
    return {mean, std::sqrt(squares / static_cast<double>(n) - mean * mean)};
}

class EveryType : public testing::TestWithParam<Type> {};

TEST_P(EveryType, HasTheDeviationAskedFor) {
    constexpr std::size_t n = std::size_t{1} << 18;
    constexpr double deviation = 1.0 / 64;
    const auto [mean, found] = moments_of(GetParam(), filled(GetParam(), 0, deviation, n), n);
    // The error of the mean is deviation / 512. Values of a block share scales, so that of the deviation is
    // larger than for independent values.
    EXPECT_NEAR(mean, 0, deviation * 0.01);
    EXPECT_NEAR(found, deviation, deviation * 0.02);
}

TEST_P(EveryType, HasOnlyFiniteScales) {
    const quant::Format& format = quant::format(GetParam());
    const std::vector<std::byte> blocks = filled(GetParam(), 0, 1, 1024 * format.block_elems);
    if (format.find_bad_scale != nullptr) {
        EXPECT_EQ(format.find_bad_scale(blocks.data(), 1024), 1024);
    }
}

TEST_P(EveryType, DependsOnTheSeed) {
    EXPECT_EQ(filled(GetParam(), 0, 1, 512, 1), filled(GetParam(), 0, 1, 512, 1));
    EXPECT_NE(filled(GetParam(), 0, 1, 512, 1), filled(GetParam(), 0, 1, 512, 2));
}

INSTANTIATE_TEST_SUITE_P(RandomBlocks, EveryType,
                         testing::Values(Type::f32, Type::f16, Type::bf16, Type::q8_0, Type::q2_k, Type::q4_k,
                                         Type::iq2_xxs),
                         [](const auto& param) { return std::string(quant::format(param.param).name); });

TEST(RandomBlocks, FloatsHaveAMean) {
    constexpr std::size_t n = std::size_t{1} << 16;
    EXPECT_NEAR(moments_of(Type::f32, filled(Type::f32, 1, 0.1, n), n).mean, 1, 0.002);
    EXPECT_EQ(moments_of(Type::f32, filled(Type::f32, 1, 0, 3), 3).mean, 1);
}

}  // namespace
}  // namespace ds4::synth
