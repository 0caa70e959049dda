#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ds4/sampling.h"

namespace ds4 {
namespace {

constexpr int kDraws = 20000;

// Shares of each token over many positions.
std::map<TokenId, double> shares(const std::vector<float>& logits, const Sampling& sampling) {
    std::map<TokenId, double> out;
    for (int position = 0; position < kDraws; ++position)
        out[sample(logits, sampling, position)] += 1.0 / kDraws;
    return out;
}

Sampling plain() {
    Sampling s;
    s.min_p = 0;
    s.seed = 42;
    return s;
}

// Logarithms of 0.5, 0.25, 0.15, 0.1, shuffled.
const std::vector<float> kLogits = {std::log(0.15F), std::log(0.5F), std::log(0.1F), std::log(0.25F)};
// Four standard deviations of a share of one half in kDraws draws.
constexpr double kTolerance = 0.015;

TEST(Sampler, GreedyTakesTheBestAndOfEqualsTheFirst) {
    Sampling s;
    s.temperature = 0;
    EXPECT_EQ(sample(std::vector<float>{1, 3, 3, 2}, s, 0), 1);
}

TEST(Sampler, NeverTakesNan) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Sampling s;
    s.temperature = 0;
    EXPECT_EQ(sample(std::vector<float>{nan, 1, nan, 2}, s, 0), 3);
    const auto got = shares({nan, 1, nan, 1}, plain());
    EXPECT_EQ(got.size(), 2U);
    EXPECT_EQ(got.count(0) + got.count(2), 0U);
}

TEST(Sampler, FollowsTheDistribution) {
    auto got = shares(kLogits, plain());
    EXPECT_NEAR(got[1], 0.5, kTolerance);
    EXPECT_NEAR(got[3], 0.25, kTolerance);
    EXPECT_NEAR(got[0], 0.15, kTolerance);
    EXPECT_NEAR(got[2], 0.1, kTolerance);
}

TEST(Sampler, TemperatureSharpens) {
    Sampling s = plain();
    s.temperature = 0.5F;  // squares the odds: 0.25, 0.0625, 0.0225, 0.01 of 0.345
    EXPECT_NEAR(shares(kLogits, s)[1], 0.25 / 0.345, kTolerance);
}

TEST(Sampler, TopKKeepsTheBest) {
    Sampling s = plain();
    s.top_k = 2;
    auto got = shares(kLogits, s);
    EXPECT_EQ(got.size(), 2U);
    EXPECT_NEAR(got[1], 0.5 / 0.75, kTolerance);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
    Sampling s = plain();
    s.top_p = 0.7F;  // 0.5 is not enough, 0.75 is
    auto got = shares(kLogits, s);
    EXPECT_EQ(got.size(), 2U);
    EXPECT_EQ(got.count(1) + got.count(3), 2U);
    s.top_p = 1e-6F;
    EXPECT_EQ(shares(kLogits, s).size(), 1U);
}

TEST(Sampler, MinPCutsRelativeToTheBest) {
    Sampling s = plain();
    s.min_p = 0.25F;  // of 0.5: keeps 0.25 and 0.15, drops 0.1
    auto got = shares(kLogits, s);
    EXPECT_EQ(got.size(), 3U);
    EXPECT_EQ(got.count(2), 0U);
}

TEST(Sampler, IsAFunctionOfSeedAndPosition) {
    Sampling a = plain();
    Sampling b = plain();
    b.seed = 43;
    int same = 0;
    for (int position = 0; position < 1000; ++position) {
        EXPECT_EQ(sample(kLogits, a, position), sample(kLogits, a, position));
        same += sample(kLogits, a, position) == sample(kLogits, b, position) ? 1 : 0;
    }
    EXPECT_NEAR(same / 1000.0, 0.5 * 0.5 + 0.25 * 0.25 + 0.15 * 0.15 + 0.1 * 0.1, 0.07);
}

TEST(Sampler, WorksOnAVocabularyOfRealSize) {
    std::vector<float> logits(129280, 0.0F);
    Sampling s = plain();
    s.top_p = 0.5F;
    for (int position = 0; position < 20; ++position) {
        const TokenId id = sample(logits, s, position);
        EXPECT_LT(id, 129280 / 2);  // of equals the lower ids come first
    }
}

// Logits as a model makes them and as it should not.
std::vector<float> random_logits(std::mt19937& random, std::size_t n) {
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(n);
    for (float& l : logits) {
        const auto kind = random() % 20;
        l = kind == 0   ? std::numeric_limits<float>::quiet_NaN()
            : kind == 1 ? -std::numeric_limits<float>::infinity()
            : kind == 2 ? 4.0F  // equals
                        : normal(random);
    }
    return logits;
}

TEST(Sampler, FindsTheBestAnywhere) {
    std::mt19937 random(5);
    Sampling s;
    s.temperature = 0;
    for (std::size_t n = 1; n < 100; ++n) {
        const auto logits = random_logits(random, n);
        std::size_t best = 0;
        for (std::size_t i = 1; i < n; ++i) {
            if (std::isnan(logits[best]) || logits[i] > logits[best]) best = i;
        }
        if (!(logits[best] > -std::numeric_limits<float>::infinity())) best = 0;
        EXPECT_EQ(sample(logits, s, 0), static_cast<TokenId>(best)) << n;
    }
}

// What min_p cuts is not looked at, unless top_k and top_p need to; these keep all that min_p does.
TEST(Sampler, LookingAtLessChangesNothing) {
    std::mt19937 random(6);
    for (int round = 0; round < 320; ++round) {
        const std::size_t n = round % 16 == 0 ? 20'000 : 400;
        const auto logits = random_logits(random, n);
        for (const float min_p : {0.05F, 0.9F, 1.0F, 1e-4F}) {
            Sampling quick;
            quick.min_p = min_p;
            quick.temperature = 0.7F;
            Sampling whole = quick;
            whole.top_k = static_cast<int>(n) - 1;
            whole.top_p = 0.9999999F;
            EXPECT_EQ(sample(logits, quick, round), sample(logits, whole, round));
        }
    }
}

// With top_k it is summed exactly.
TEST(Sampler, SumsInPassingChangeNothing) {
    std::mt19937 random(7);
    for (int round = 0; round < 320; ++round) {
        const std::size_t n = round % 16 == 0 ? 20'000 : 400;
        const auto logits = random_logits(random, n);
        for (const float top_p : {0.5F, 0.9F, 0.99F, 1.0F}) {
            Sampling quick = plain();
            quick.temperature = 0.8F;
            quick.top_p = top_p;
            Sampling exact = quick;
            exact.top_k = static_cast<int>(n) - 1;
            EXPECT_EQ(sample(logits, quick, round), sample(logits, exact, round));
        }
    }
}

// Two tokens reach top_p, or just do not, beside many that hardly count.
TEST(Sampler, TheNucleusIsExact) {
    std::mt19937 random(8);
    std::normal_distribution<float> normal(-8, 2);
    std::vector<float> logits(129280);
    for (float& l : logits) l = std::min(normal(random), -1.0F);
    logits[100] = 0;
    logits[50] = -0.4F;
    Sampling s = plain();
    s.temperature = 0.9F;
    const auto weight = [&](float l) {
        return std::exp(static_cast<double>(l) / static_cast<double>(s.temperature));
    };
    double total = 0;
    for (const float l : logits) total += weight(l);
    const double share = (weight(0) + weight(-0.4F)) / total;
    const auto n_kept = [&](double top_p) {
        s.top_p = static_cast<float>(top_p);
        std::set<TokenId> kept;
        for (int position = 0; position < 300; ++position) kept.insert(sample(logits, s, position));
        return kept.size();
    };
    EXPECT_EQ(n_kept(share * (1 - 2e-6)), 2U);
    EXPECT_EQ(n_kept(share * (1 + 2e-6)), 3U);
}

TEST(Logprobs, AreTheLogarithmsOfTheSoftmax) {
    const auto top = top_logprobs(kLogits, 3);
    ASSERT_EQ(top.size(), 3U);
    EXPECT_EQ(top[0].id, 1);
    EXPECT_EQ(top[1].id, 3);
    EXPECT_EQ(top[2].id, 0);
    EXPECT_NEAR(top[0].logprob, std::log(0.5), 1e-6);
    EXPECT_NEAR(logprob(kLogits, 2), std::log(0.1), 1e-6);
    EXPECT_EQ(top_logprobs(kLogits, 100).size(), kLogits.size());
}

}  // namespace
}  // namespace ds4
