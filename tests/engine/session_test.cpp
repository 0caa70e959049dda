#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
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

TEST_F(Sessions, AStepIsAsLongAsSuitsTheBackend) {
    const test::AlphaFiles files;
    const auto max_batch = [&](BackendKind backend, std::int64_t wanted, bool profile) {
        EngineOptions options;
        options.model = files.trunk;
        options.threads = 1;
        options.backend = backend;
        options.max_batch = wanted;
        options.max_context = 4096;
        options.profile = profile;
        const auto engine = Engine::open(options);
        const std::int64_t rows = engine->max_batch();
        const std::vector<TokenId> tokens(static_cast<std::size_t>(rows) + 1, ids.front());
        const auto session = engine->new_session();
        const Engine::Work work{session.get(), tokens};
        try {
            engine->step({&work, 1});
            ADD_FAILURE() << "must throw";
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("more than max_batch " + std::to_string(rows)));
        }
        return rows;
    };
    EXPECT_EQ(max_batch(BackendKind::cpu, 0, false), 512);
    EXPECT_EQ(max_batch(BackendKind::emulated, 0, false), 2048);
    EXPECT_EQ(max_batch(BackendKind::emulated, 0, true), 2048);
    EXPECT_EQ(max_batch(BackendKind::emulated, 48, false), 48);
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
                        [&](TokenId) { return ++seen != cancel_after; });
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

// ---- logits that stay where they are until somebody looks ----

TokenId greedy(std::span<const float> logits) {
    return sample(logits, {.temperature = 0}, 0);
}

class FarLogits : public Sessions {
  protected:
    // Sessions after the first n tokens, some of them with a token more for which only the best is asked for.
    std::unique_ptr<Session> start(std::int64_t n) {
        auto session = engine().new_session();
        session->append(std::span(ids).first(static_cast<std::size_t>(n)));
        return session;
    }
    Engine::Work decode(Session& session, bool wants_best) {
        const auto next = std::span(ids).subspan(static_cast<std::size_t>(session.n_tokens()), 1);
        return {&session, next, nullptr, true, wants_best};
    }
    std::vector<float> expected(std::int64_t n) {
        const auto session = start(n - 1);
        const Engine::Work work = decode(*session, false);
        engine().step({&work, 1});
        return copy(session->logits());
    }
};

TEST_F(FarLogits, AreThoseOfTheLastStepWheneverOneLooks) {
    std::map<std::int64_t, std::vector<float>> after;
    for (const std::int64_t n : {21, 22, 23, 31, 32, 41, 42}) after[n] = expected(n);
    const auto a = start(20), b = start(30), c = start(40), stranger = start(50);
    const auto step = [](std::vector<Engine::Work> work) { engine().step(work); };
    step({decode(*a, true), decode(*b, false), decode(*c, true)});
    step({decode(*stranger, false)});  // which needs the place
    EXPECT_EQ(c->best(), greedy(after[41]));
    EXPECT_EQ(copy(a->logits()), after[21]);
    EXPECT_EQ(copy(b->logits()), after[31]);
    EXPECT_EQ(copy(c->logits()), after[41]);
    EXPECT_EQ(a->best(), greedy(after[21]));
    EXPECT_EQ(b->best(), greedy(after[31]));

    // In another order and company; nobody asks the ones that go on.
    step({decode(*c, true), decode(*a, true)});
    step({decode(*a, true), decode(*b, true)});
    EXPECT_EQ(copy(a->logits()), after[23]);
    EXPECT_EQ(copy(c->logits()), after[42]);
    EXPECT_EQ(b->best(), greedy(after[32]));
    EXPECT_EQ(copy(b->logits()), after[32]);
}

TEST_F(FarLogits, AreInPointsAndGoWithTheSession) {
    const std::vector<float> after = expected(21);
    auto a = start(20), b = start(30);
    const Engine::Work both[] = {decode(*a, true), decode(*b, true)};
    engine().step(both);
    b.reset();
    const CheckpointPtr point = a->mark();
    EXPECT_EQ(copy(point->logits()), after);
    const Engine::Work one = decode(*a, true);
    engine().step({&one, 1});
    a->rewind(21);
    EXPECT_EQ(copy(a->logits()), after);
    EXPECT_EQ(a->best(), greedy(after));
    a->rewind(0);
    EXPECT_TRUE(a->logits().empty());
}

TEST_F(FarLogits, MoreSessionsThanTheirPlaceHolds) {
    std::vector<std::vector<float>> after;
    for (std::int64_t i = 0; i < 20; ++i) after.push_back(expected(6 + i));
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Engine::Work> work;
    for (std::int64_t i = 0; i < 20; ++i) {
        sessions.push_back(start(5 + i));
        work.push_back(decode(*sessions.back(), true));
    }
    engine().step(work);
    for (std::size_t i = 0; i < sessions.size(); ++i) {
        EXPECT_EQ(sessions[i]->best(), greedy(after[i]));
        EXPECT_EQ(copy(sessions[i]->logits()), after[i]);
    }
}

}  // namespace
}  // namespace ds4
