#include "kv/disk_cache.h"

#include <gtest/gtest.h>

#include <atomic>

#include "kv/stores.h"

namespace ds4 {
namespace {

using test::Stores;

TEST_F(Stores, AThreadWritesAndAnotherReads) {
    kv::DiskCache cache(options(), engine());
    const auto live = session(40);
    cache.write(save_of(live->mark()));
    // The snapshot is what it was, however the session goes on.
    live->append(std::span(ids).subspan(40, 100));
    cache.write(save_of(live->mark()));
    live->rewind(40);
    live->append(std::span(ids).first(20));
    cache.flush();
    EXPECT_EQ(cache.totals().n_waiting, 0U);
    const auto found = cache.find(key_of(ids));
    ASSERT_EQ(found.size(), 2U);

    // Whoever was promised a call has had it, so he may go.
    std::atomic<int> n_calls{0};
    std::vector<std::shared_ptr<kv::DiskCache::Reading>> readings;
    for (int i = 0; i < 10; ++i) readings.push_back(cache.read(found[i % 2], [&] { ++n_calls; }));
    cache.finish_reading();
    EXPECT_EQ(n_calls, 10);
    const std::vector<float> expected = finish(session(40)->mark());
    for (std::size_t i = 0; i < readings.size(); ++i) {
        ASSERT_TRUE(readings[i]->is_done && readings[i]->loaded);
        if (i >= found.size()) continue;
        EXPECT_EQ(finish(readings[i]->loaded->points.back()), expected);
    }
}

}  // namespace
}  // namespace ds4
