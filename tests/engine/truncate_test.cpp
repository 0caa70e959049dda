#include <gtest/gtest.h>

#include <vector>

#include "engine/sessions.h"

namespace ds4 {
namespace {

using test::Sessions;

// Every phase of both compressors, across the snapshots that a long append takes.
TEST_F(Sessions, TruncateAndContinueEqualsAFreshRun) {
    const auto fresh = engine().new_session();
    std::vector<std::vector<float>> expected;
    Session::AppendOptions keep;
    keep.on_logits = [&](std::int64_t, std::span<const float> logits) { expected.push_back(copy(logits)); };
    fresh->append(ids, keep);
    for (std::int64_t m = 1; m <= 140; ++m) {
        const auto session = engine().new_session();
        session->append(std::span(ids).first(90));
        session->append(std::span(ids).subspan(90, 60));
        session->truncate(m);
        ASSERT_EQ(session->n_tokens(), m);
        ASSERT_EQ(copy(session->logits()), expected[static_cast<std::size_t>(m - 1)]) << m;
        session->append(std::span(ids).subspan(static_cast<std::size_t>(m), 5));
        ASSERT_EQ(copy(session->logits()), expected[static_cast<std::size_t>(m + 4)]) << m;
    }
}

}  // namespace
}  // namespace ds4
