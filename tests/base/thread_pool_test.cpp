#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

namespace ds4 {
namespace {

class ThreadPoolOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolOf, testing::Values(1, 2, 3, 8));

TEST_P(ThreadPoolOf, CoversEveryIndexOnceInAlignedPieces) {
    ThreadPool pool(GetParam());
    EXPECT_EQ(pool.size(), GetParam());
    for (const std::size_t n : {0U, 1U, 7U, 64U, 1000U}) {
        for (const std::size_t grain : {1U, 3U, 16U, 5000U}) {
            std::vector<int> hits(n, 0);
            pool.parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
                EXPECT_EQ(begin % grain, 0U);
                EXPECT_TRUE(end == n || end % grain == 0);
                for (std::size_t i = begin; i < end; ++i) ++hits[i];
            });
            EXPECT_EQ(hits, std::vector<int>(n, 1)) << n << " by " << grain;
        }
    }
}

TEST_P(ThreadPoolOf, MembersNeverOverlap) {
    ThreadPool pool(GetParam());
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(pool.size()));
    pool.parallel_for(2000, [&](std::size_t, std::size_t, int member) {
        EXPECT_EQ(inside[static_cast<std::size_t>(member)].fetch_add(1), 0);
        inside[static_cast<std::size_t>(member)].fetch_sub(1);
    });
}

TEST_P(ThreadPoolOf, RunsManyShortLoops) {
    ThreadPool pool(GetParam());
    std::size_t total = 0;
    for (int round = 0; round < 2000; ++round) {
        std::atomic<std::size_t> sum{0};
        pool.parallel_for(16, [&](std::size_t begin, std::size_t end) { sum += end - begin; });
        total += sum;
    }
    EXPECT_EQ(total, 32000U);
}

// Long enough for the caller to fall asleep while the others are inside, and for them while nothing is to do.
TEST_P(ThreadPoolOf, WakesWhoFellAsleep) {
    using namespace std::chrono_literals;
    ThreadPool pool(GetParam());
    for (int round = 0; round < 10; ++round) {
        std::atomic<std::size_t> sum{0};
        pool.parallel_for(64, [&](std::size_t begin, std::size_t end, int member) {
            if (member != 0) std::this_thread::sleep_for(1ms);
            sum += end - begin;
        });
        EXPECT_EQ(sum, 64U);
        std::this_thread::sleep_for(1ms);
    }
}

TEST_P(ThreadPoolOf, PassesOnAnExceptionAndStaysUsable) {
    ThreadPool pool(GetParam());
    const auto fail = [](std::size_t, std::size_t) { throw std::runtime_error("no"); };
    EXPECT_THROW(pool.parallel_for(100, fail), std::runtime_error);
    std::atomic<std::size_t> sum{0};
    pool.parallel_for(100, [&](std::size_t begin, std::size_t end) { sum += end - begin; });
    EXPECT_EQ(sum, 100U);
}

TEST(ThreadPool, ZeroMeansAllUsableCores) {
    EXPECT_GE(ThreadPool(0).size(), 1);
}

}  // namespace
}  // namespace ds4
