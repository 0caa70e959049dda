#include "backend/cpu/top_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "backend/cpu/dot_targets.h"
#include "backend/device.h"

namespace ds4::test {
namespace {

std::vector<std::int32_t> by_sorting(const std::vector<float>& scores, std::size_t k) {
    std::vector<std::int32_t> rows(scores.size());
    std::iota(rows.begin(), rows.end(), 0);
    std::stable_sort(rows.begin(), rows.end(), [&](std::int32_t a, std::int32_t b) {
        return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
    });
    rows.resize(k);
    std::sort(rows.begin(), rows.end());
    return rows;
}

void expect_top(const std::vector<float>& scores, std::size_t k) {
    std::vector<float> padded = scores;
    padded.resize(scores.size() + 16, std::numeric_limits<float>::infinity());  // must not be taken
    std::vector<std::int32_t> ranks(padded.size());
    std::vector<std::int32_t> rows(k, -1);
    cpu::top_rows(padded.data(), scores.size(), k, ranks.data(), rows.data());
    ASSERT_EQ(rows, by_sorting(scores, k)) << k << " of " << scores.size();
}

TEST(TopRows, AreThoseOfASort) {
    for (const std::int64_t target : cpu::simd_targets()) {
        const cpu::ForcedSimdTarget forced(target);
        Random random(3);
        for (int round = 0; round < 60; ++round) {
            const std::int64_t n = random.integer(1, 200);
            const auto k = static_cast<std::size_t>(random.integer(1, n));
            expect_top(random.gaussian(n), k);
            expect_top(random.integers(n, 2), k);  // many equal ones, 0 among them
            if (HasFatalFailure()) return;
        }
    }
}

TEST(TopRows, ExtremeScores) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const std::vector<float> scores{0, -kInfinity, 1e-45F, kInfinity, -1e-45F, 3e38F, -3e38F, kInfinity, 0};
    for (std::size_t k = 1; k <= scores.size(); ++k) expect_top(scores, k);
    expect_top(std::vector<float>(100, -1.5F), 37);
}

}  // namespace
}  // namespace ds4::test
