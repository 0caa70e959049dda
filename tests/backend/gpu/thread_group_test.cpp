#include <gmock/gmock.h>

#include <functional>
#include <vector>

#include "backend/gpu/dialect.h"
#include "ds4/error.h"

// The emulated device: what threads of a group do together, and what it refuses.
namespace ds4::gpu::emulated {
namespace {

using Body = std::function<void(Thread t)>;

void run(std::uint32_t n_threads, const Body& body, std::uint32_t group = 0) {
    ThreadGroup threads;
    const auto call = [](const Thread& t, const void* args, void*) { (*static_cast<const Body*>(args))(t); };
    threads.run({"test", call, &body, nullptr}, group, 0, n_threads);
}

std::string failure_of(std::uint32_t n_threads, const Body& body) {
    try {
        run(n_threads, body);
    } catch (const DeviceError& error) {
        return error.what();
    }
    return "none";
}

TEST(ThreadGroup, EveryThreadRunsOnce) {
    std::vector<int> runs(96);
    run(96, [&](Thread t) {
        EXPECT_EQ(t.simd * kSimdWidth + t.lane, t.index);
        EXPECT_EQ(t.n_simds, 3);
        ++runs[t.index];
    });
    EXPECT_THAT(runs, testing::Each(1));
}

TEST(ThreadGroup, BarrierOrdersThreads) {
    for (const std::uint32_t group : {0, 1}) {  // forwards and backwards
        std::vector<int> values(128);
        std::vector<int> seen(128);
        run(
            128,
            [&](Thread t) {
                values[t.index] = static_cast<int>(t.index);
                group_barrier(t);
                seen[t.index] = values[(t.index + 77) % 128];
                group_barrier(t);
                values[t.index] = -1;
            },
            group);
        for (int i = 0; i < 128; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], (i + 77) % 128);
    }
}

TEST(ThreadGroup, MissingBarrierShowsInOneOfTwoGroups) {
    int n_wrong = 0;
    for (const std::uint32_t group : {0, 1}) {
        std::vector<int> values(64);
        run(
            64,
            [&](Thread t) {
                values[t.index] = 1;
                n_wrong += values[63 - t.index] == 0 ? 1 : 0;
            },
            group);
    }
    EXPECT_GT(n_wrong, 0);
}

TEST(ThreadGroup, LanesExchange) {
    run(64, [](Thread t) {
        const auto lane = static_cast<float>(t.lane);
        EXPECT_EQ(simd_shuffle(t, lane, 5), 5.0F);
        EXPECT_EQ(simd_shuffle_xor(t, lane, 3), static_cast<float>(t.lane ^ 3));
        EXPECT_EQ(simd_sum(t, lane + 1), 528.0F);
        EXPECT_EQ(simd_max(t, t.index), t.simd * 32 + 31);
        EXPECT_EQ(simd_ballot(t, t.lane % 2 == 1), 0xaaaaaaaaU);
    });
}

TEST(ThreadGroup, SumIsTheButterflys) {
    run(32, [](Thread t) {
        const float v = 1.0F / static_cast<float>(3 * t.lane + 1);
        float sum = v;
        for (std::uint32_t mask = 16; mask > 0; mask /= 2) sum += simd_shuffle_xor(t, sum, mask);
        EXPECT_EQ(simd_sum(t, v), sum);
    });
}

TEST(ThreadGroup, RefusesBarriersThatNotAllReach) {
    EXPECT_THAT(failure_of(64,
                           [](Thread t) {
                               if (t.index != 40) group_barrier(t);
                           }),
                testing::AllOf(testing::HasSubstr("kernel test: divergent"),
                               testing::HasSubstr("thread 40 has ended"),
                               testing::HasSubstr("thread_group_test.cpp:")));
    const auto two_barriers = [](Thread t) {
        if (t.simd == 0) {
            group_barrier(t);
        } else {
            group_barrier(t);
        }
    };
    EXPECT_THAT(failure_of(64, two_barriers), testing::HasSubstr("divergent barrier"));
}

TEST(ThreadGroup, RefusesLanesThatDoNotMeet) {
    EXPECT_THAT(failure_of(32,
                           [](Thread t) {
                               if (t.lane < 16) simd_sum(t, 1);
                           }),
                testing::HasSubstr("divergent SIMD-group operation"));
    EXPECT_THAT(failure_of(32,
                           [](Thread t) {
                               if (t.lane < 16) {
                                   simd_barrier(t);
                               } else {
                                   group_barrier(t);
                               }
                           }),
                testing::HasSubstr("divergent SIMD-group operation"));
}

TEST(ThreadGroup, ChecksSharedArrays) {
    SharedArray<int, 8> array;
    EXPECT_THAT(failure_of(32, [&](Thread t) { array[t.lane % 9] = 1; }),
                testing::HasSubstr("out of bounds: index 8 of 8"));
}

TEST(ThreadGroup, GoesOnAfterAFailure) {
    ThreadGroup threads;
    const auto fail = [](const Thread& t, const void*, void*) {
        if (t.index < 3) group_barrier(t);
    };
    EXPECT_THROW(threads.run({"bad", fail, nullptr, nullptr}, 0, 0, 32), DeviceError);
    int sum = 0;
    const auto good = [](const Thread& t, const void*, void* out) {
        const int all = simd_sum(t, 1);
        if (t.index == 0) *static_cast<int*>(out) = all;
    };
    threads.run({"good", good, nullptr, &sum}, 0, 0, 32);
    EXPECT_EQ(sum, 32);
}

}  // namespace
}  // namespace ds4::gpu::emulated
