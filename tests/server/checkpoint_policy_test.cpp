#include "server/checkpoint_policy.h"

#include <gtest/gtest.h>

namespace ds4::server {
namespace {

// The examples of api.md 9.3.
TEST(CheckpointPolicy, ColdLengths) {
    const CheckpointPolicy policy;
    EXPECT_EQ(policy.cold_length(11011, 0), 10240);
    EXPECT_EQ(policy.cold_length(1695, 0), 1695);
    EXPECT_EQ(policy.cold_length(2080, 0), 2048);
    EXPECT_EQ(policy.cold_length(2079, 0), 2079);
    EXPECT_EQ(policy.cold_length(511, 0), 0);
    EXPECT_EQ(policy.cold_length(512, 0), 512);
    EXPECT_EQ(policy.cold_length(30000, 0), 28672);
    EXPECT_EQ(policy.cold_length(30001, 0), 0);
    EXPECT_EQ(policy.cold_length(9000, 700), 700);
    EXPECT_EQ(policy.cold_length(9000, 511), 8192);
}

TEST(CheckpointPolicy, Knobs) {
    CheckpointPolicy policy;
    policy.boundary_align = 0;
    EXPECT_EQ(policy.cold_length(9000, 0), 8968);
    policy.cold_max = 0;
    EXPECT_EQ(policy.cold_length(9000, 700), 0);
    policy = {};
    policy.min_tokens = 0;
    EXPECT_EQ(policy.cold_length(20, 0), 20);
    EXPECT_EQ(policy.cold_length(20, 5), 5);
}

TEST(CheckpointPolicy, ContinuedPlaces) {
    CheckpointPolicy policy;
    EXPECT_EQ(policy.step(), 10240);
    EXPECT_EQ(policy.next_continued(0), 10240);
    EXPECT_EQ(policy.next_continued(10239), 10240);
    EXPECT_EQ(policy.next_continued(10240), 20480);
    EXPECT_TRUE(policy.is_continued(20480));
    EXPECT_FALSE(policy.is_continued(20481));
    EXPECT_FALSE(policy.is_continued(0));
    policy.boundary_align = 0;
    EXPECT_EQ(policy.step(), 10000);
    policy.continued_interval = 0;
    EXPECT_FALSE(policy.is_continued(10000));
    EXPECT_GT(policy.next_continued(5), 1'000'000'000);
}

}  // namespace
}  // namespace ds4::server
