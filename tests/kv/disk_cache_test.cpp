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
    for (const auto& reading : readings) {
        ASSERT_TRUE(reading->is_done && reading->loaded);
        EXPECT_EQ(finish(reading->loaded->points.back()), finish(session(40)->mark()));
    }
}

}  // namespace
}  // namespace ds4
