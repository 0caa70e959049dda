#include "server/backoff.h"

#include <gtest/gtest.h>

namespace ds4::server {
namespace {

using namespace std::chrono_literals;

const Backoff::Clock::time_point kStart{1h};

TEST(Backoff, DoublesUpToTheLongest) {
    Backoff backoff(1s, 5s);
    EXPECT_TRUE(backoff.is_fresh(kStart));
    for (const auto expected : {1s, 2s, 4s, 5s, 5s}) {
        EXPECT_EQ(backoff.next(kStart), expected);
        EXPECT_FALSE(backoff.is_fresh(kStart + 1h));  // it has not worked since
    }
}

TEST(Backoff, WhatWorksForAMomentOnlyGoesOnDoubling) {
    Backoff backoff(1s, 5s);
    backoff.works(kStart);  // tried at once, the first time
    EXPECT_FALSE(backoff.is_fresh(kStart + 5s));
    EXPECT_EQ(backoff.next(kStart + 5s), 1s);
    backoff.works(kStart + 6s);
    EXPECT_EQ(backoff.next(kStart + 7s), 2s);
    backoff.works(kStart + 9s);
    EXPECT_EQ(backoff.next(kStart + 14s), 4s);
}

TEST(Backoff, WhatHasWorkedForLongStartsAnew) {
    Backoff backoff(1s, 5s);
    backoff.next(kStart);
    EXPECT_EQ(backoff.next(kStart), 2s);
    backoff.works(kStart);
    EXPECT_TRUE(backoff.is_fresh(kStart + 5001ms));
    EXPECT_EQ(backoff.next(kStart + 5001ms), 1s);
    EXPECT_EQ(backoff.next(kStart + 5001ms), 2s);
}

// A first wait that is longer than the longest is the longest.
TEST(Backoff, NeverShortens) {
    Backoff backoff(1h, 1s);
    EXPECT_EQ(backoff.next(kStart), 1h);
    EXPECT_EQ(backoff.next(kStart), 1h);
}

}  // namespace
}  // namespace ds4::server
