#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ds4/engine.h"
#include "ds4/generate.h"
#include "engine/sessions.h"

namespace ds4 {
namespace {

using test::Sessions;
using testing::HasSubstr;

TEST_F(Sessions, AppendInAnyPortionsGivesTheSameLogits) {
    const auto whole = engine().new_session();
    whole->append(ids);
    EXPECT_EQ(whole->n_tokens(), 300);
    const auto parts = engine().new_session();
    parts->append(std::span(ids).first(100));
    for (std::size_t i = 100; i < 110; ++i) parts->append({&ids[i], 1});
    parts->append(std::span(ids).subspan(110));
    EXPECT_EQ(copy(parts->logits()), copy(whole->logits()));
    EXPECT_EQ(std::vector<TokenId>(parts->tokens().begin(), parts->tokens().end()), ids);
}

TEST_F(Sessions, TruncateToNothingIsAnEmptySession) {
    const auto session = engine().new_session();
    session->append(std::span(ids).first(50));
    session->truncate(0);
    EXPECT_EQ(session->n_tokens(), 0);
    EXPECT_TRUE(session->logits().empty());
    session->append(ids);
    const auto fresh = engine().new_session();
    fresh->append(ids);
    EXPECT_EQ(copy(session->logits()), copy(fresh->logits()));
    EXPECT_THROW(session->truncate(301), Error);
    EXPECT_THROW(session->truncate(-1), Error);
}

TEST_F(Sessions, AStepOfSeveralEqualsEachAlone) {
    const auto a = engine().new_session();
    const auto b = engine().new_session();
    const auto alone = engine().new_session();
    a->append(std::span(ids).first(33));
    b->append(std::span(ids).first(7));
    alone->append(std::span(ids).first(40));
    const Engine::Work work[] = {{b.get(), std::span(ids).subspan(7, 20)},
                                 {a.get(), std::span(ids).subspan(33, 7)}};
    engine().step(work);
    EXPECT_EQ(copy(a->logits()), copy(alone->logits()));
    EXPECT_EQ(b->n_tokens(), 27);
}

TEST_F(Sessions, ProgressCanStopAnAppend) {
    const auto session = engine().new_session();
    Session::AppendOptions options;
    options.progress = [](std::int64_t done, std::int64_t total) {
        EXPECT_EQ(total, 300);
        return done < 128;
    };
    EXPECT_EQ(session->append(ids, options), 128);
    EXPECT_EQ(session->n_tokens(), 128);
    session->append(std::span(ids).subspan(128));
    const auto fresh = engine().new_session();
    fresh->append(ids);
    EXPECT_EQ(copy(session->logits()), copy(fresh->logits()));
}

TEST_F(Sessions, RefusesWhatDoesNotFitAndStaysAsItWas) {
    const auto session = engine().new_session(20);
    session->append(std::span(ids).first(10));
    const std::vector<float> before = copy(session->logits());
    try {
        session->append(std::span(ids).first(11));
        FAIL() << "must throw";
    } catch (const ContextError& error) {
        EXPECT_THAT(error.what(), HasSubstr("11 tokens do not fit: the context holds 20 and 10 are used"));
    }
    const TokenId beyond[] = {1, 320};
    EXPECT_THROW(session->append(beyond), Error);
    EXPECT_EQ(session->n_tokens(), 10);
    EXPECT_EQ(copy(session->logits()), before);
    EXPECT_THROW(engine().new_session(513), ContextError);
    EXPECT_THROW(engine().tokenizer(), TokenizerError);
}

TEST_F(Sessions, GenerateStopsForEachReason) {
    Sampling greedy;
    greedy.temperature = 0;
    const auto run = [&](std::int64_t context, std::int64_t max_tokens, std::vector<TokenId> stop,
                         int cancel_after) {
        const auto session = engine().new_session(context);
        session->append(std::span(ids).first(10));
        int seen = 0;
        return generate(*session, {greedy, max_tokens, std::move(stop)},
                        [&](TokenId, std::span<const float>) { return ++seen != cancel_after; });
    };
    const Generated length = run(100, 5, {}, 0);
    EXPECT_EQ(length.reason, FinishReason::length);
    EXPECT_EQ(length.n_tokens, 5);
    const Generated context = run(14, 0, {}, 0);
    EXPECT_EQ(context.reason, FinishReason::context);
    EXPECT_EQ(context.n_tokens, 4);
    const Generated cancelled = run(100, 0, {}, 3);
    EXPECT_EQ(cancelled.reason, FinishReason::cancelled);
    EXPECT_EQ(cancelled.n_tokens, 3);

    const auto session = engine().new_session();
    session->append(std::span(ids).first(10));
    const TokenId first = sample(session->logits(), greedy, 10);
    const Generated stopped = run(100, 5, {first}, 0);
    EXPECT_EQ(stopped.reason, FinishReason::stop);
    EXPECT_EQ(stopped.n_tokens, 0);
}

}  // namespace
}  // namespace ds4
