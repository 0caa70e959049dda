#include "engine/ranking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace ds4 {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kAll = std::numeric_limits<double>::infinity();

// The plain way: sort everything, add up everything.
struct Sorted {
    std::vector<TokenId> ids;
    std::vector<double> sums;

    Sorted(const std::vector<float>& logits, const Weight& weight, float least) {
        const auto logit = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
        for (std::size_t i = 0; i < logits.size(); ++i) {
            if (logits[i] >= least) ids.push_back(static_cast<TokenId>(i));
        }
        std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
        double sum = 0;
        for (const TokenId id : ids) sums.push_back(sum += weight(logit(id)));
    }
};

enum class Shape { flat, normal, steps, outlier };

std::vector<float> logits_of(Shape shape, std::size_t n) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal(1, shape == Shape::normal ? 3.0F : 0.02F);
    std::vector<float> logits(n);
    for (float& l : logits) {
        l = shape == Shape::steps ? static_cast<float>(random() % 3) : normal(random);
        if (random() % 50 == 0) l = std::numeric_limits<float>::quiet_NaN();
        if (random() % 50 == 0) l = -kInfinity;
    }
    if (shape == Shape::outlier) logits[n / 2] = -30;
    return logits;
}

// Tokens that are listed, and such that go to buckets; the last block is not whole.
class RankingTest : public testing::TestWithParam<std::tuple<Shape, std::size_t>> {};

TEST_P(RankingTest, IsTheOrderOfAllTokens) {
    const auto [shape, size] = GetParam();
    const std::vector<float> logits = logits_of(shape, size);
    const BlockMaxima maxima(logits);
    const float top = maxima.top();
    EXPECT_EQ(top, logits[static_cast<std::size_t>(Sorted(logits, Weight(0, 1), -1000).ids.front())]);
    for (const float temperature : {0.3F, 1.0F, 100.0F}) {
        const Weight weight(top, temperature);
        const float least = weight.logit_of(0x1p-54);
        const Sorted sorted(logits, weight, least);
        Ranking ranking(maxima, weight, least);
        ASSERT_EQ(ranking.size(), sorted.ids.size());
        EXPECT_NEAR(ranking.total(), sorted.sums.back(), 1e-9 * sorted.sums.back());
        for (const double share : {0.0, 1e-5, 0.1, 0.5, 0.9, 0.99999}) {
            SCOPED_TRACE(std::to_string(temperature) + " " + std::to_string(share));
            const auto rank = static_cast<std::size_t>(share * static_cast<double>(sorted.ids.size()));
            const double before = rank == 0 ? 0 : sorted.sums[rank - 1];
            const double sum = sorted.sums[rank];
            // In the middle of the token, where rounding leads to no other, if it has a middle.
            if (sum - before > 1e-8 * sum) {
                const auto by_sum = ranking.find((before + sum) / 2);
                EXPECT_EQ(by_sum.id, sorted.ids[rank]);
                EXPECT_EQ(by_sum.n, rank + 1);
                EXPECT_NEAR(by_sum.sum, sum, 1e-9 * sum);
            }
            const auto by_number = ranking.find(kAll, rank + 1);
            EXPECT_EQ(by_number.id, sorted.ids[rank]);
            EXPECT_EQ(by_number.n, rank + 1);
        }
        EXPECT_EQ(ranking.find(kAll).id, sorted.ids.back());
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RankingTest,
                         testing::Combine(testing::Values(Shape::flat, Shape::normal, Shape::steps,
                                                          Shape::outlier),
                                          testing::Values(std::size_t{1000}, std::size_t{20'007})));

TEST(Ranking, OfEqualsTheLowerIdsComeFirst) {
    const std::vector<float> logits(10'000, 2.0F);
    const BlockMaxima maxima(logits);
    Ranking ranking(maxima, Weight(2, 1), -kInfinity);
    EXPECT_EQ(ranking.total(), 10'000);
    EXPECT_EQ(ranking.find(6000).id, 5999);
    EXPECT_EQ(ranking.find(kAll, 10).id, 9);
}

TEST(BlockMaxima, NameALogitThatEnoughTokensReach) {
    const std::vector<float> logits = logits_of(Shape::normal, 20'007);
    const BlockMaxima maxima(logits);
    for (const std::size_t n : {1U, 40U, 313U}) {
        const std::size_t n_above = maxima.count_above(maxima.reached_by(n));
        EXPECT_GE(n_above, n);
        EXPECT_LE(n_above, 10 * n);
    }
    EXPECT_EQ(maxima.reached_by(314), -kInfinity);  // more than there are blocks
}

TEST(Weight, KnowsTheLogitOfAWeight) {
    const Weight weight(3, 0.5F);
    EXPECT_FLOAT_EQ(weight.logit_of(std::exp(-4.0)), 1);
    EXPECT_DOUBLE_EQ(weight(1), std::exp(-4.0));
    EXPECT_EQ(weight.logit_of(1), 3);
    EXPECT_EQ(Weight(0, 1e38F).logit_of(1e-9), -std::numeric_limits<float>::max());
}

}  // namespace
}  // namespace ds4
