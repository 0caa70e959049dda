// A session's logits must not depend, in a single bit, on how its tokens were cut into steps, on who else was
// in them, or on the number of threads (design.md, "Rules that keep results honest").
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference.h"
#include "model/mtp.h"
#include "model/random_model.h"
#include "model/runner.h"

namespace ds4 {
namespace {

constexpr std::int64_t kTokens = 300;  // two rows of ratio 128, 75 of ratio 4, many turns of the ring

class Invariance : public testing::TestWithParam<quant::Type> {
  protected:
    Invariance() : model(7, GetParam()), ids(model.tokens(kTokens, 11)) {
        const auto backend = make_cpu_backend(1);
        test::Runner runner(*backend, model);
        const auto state = runner.new_state();
        expected = runner.prefill(*state, ids, 512);
    }

    // Logits of the tokens [first, first + n).
    std::vector<float> expected_rows(std::size_t first, std::size_t n) const {
        const auto v = static_cast<std::size_t>(model.config.vocab);
        return {expected.begin() + static_cast<std::ptrdiff_t>(first * v),
                expected.begin() + static_cast<std::ptrdiff_t>((first + n) * v)};
    }

    void run_in_crowd(std::size_t n_others);

    test::RandomModel model;
    std::vector<TokenId> ids;
    std::vector<float> expected;
};

INSTANTIATE_TEST_SUITE_P(Types, Invariance,
                         testing::Values(quant::Type::f32, quant::Type::bf16, quant::Type::q8_0),
                         [](const auto& type) { return std::string(quant::format(type.param).name); });

TEST_P(Invariance, ChunkingAndThreads) {
    for (const int threads : {1, 2, 4}) {
        const auto backend = make_cpu_backend(threads);
        test::Runner runner(*backend, model);
        for (const std::size_t chunk : {1U, 2U, 3U, 5U, 17U, 64U, 300U}) {
            const auto state = runner.new_state();
            EXPECT_EQ(runner.prefill(*state, ids, chunk), expected)
                << threads << " threads, chunks of " << chunk;
        }
    }
}

void Invariance::run_in_crowd(std::size_t n_others) {
    const auto backend = make_cpu_backend(2);
    test::Runner runner(*backend, model);
    const auto state = runner.new_state();
    std::vector<std::unique_ptr<KvState>> others;
    std::vector<std::vector<TokenId>> other_ids;
    for (std::size_t i = 0; i < n_others; ++i) {
        others.push_back(runner.new_state());
        other_ids.push_back(model.tokens(kTokens, 100 + i));
        // The others are at other places in their own histories.
        runner.step({{others.back().get(), std::span(other_ids.back()).first(1 + i * 37 % 200)}});
    }
    std::size_t done = 0;
    for (std::size_t round = 0; done < ids.size(); ++round) {
        const std::size_t n = std::min<std::size_t>(ids.size() - done, round % 3 == 0 ? 1 : 9 + round % 40);
        std::vector<test::Runner::Item> items;
        for (std::size_t i = 0; i < n_others; ++i) {
            const auto at = static_cast<std::size_t>(others[i]->n_tokens());
            const std::size_t m =
                std::min<std::size_t>(other_ids[i].size() - at, (i + round) % 5 == 0 ? 0 : 1 + i * round % 7);
            if (i == n_others / 2) items.push_back({state.get(), std::span(ids).subspan(done, n)});
            if (m > 0) items.push_back({others[i].get(), std::span(other_ids[i]).subspan(at, m)});
        }
        std::size_t row = 0;
        for (const auto& item : items) {
            if (item.state == state.get()) break;
            row += item.tokens.size();
        }
        const std::vector<float> logits = runner.step(items);
        const auto v = static_cast<std::size_t>(model.config.vocab);
        const std::vector<float> mine(logits.begin() + static_cast<std::ptrdiff_t>(row * v),
                                      logits.begin() + static_cast<std::ptrdiff_t>((row + n) * v));
        ASSERT_EQ(mine, expected_rows(done, n)) << "tokens from " << done;
        done += n;
    }
}

// With 1, 7 and 31 others at places of their own, who come and go in the middle.
TEST_P(Invariance, AloneOrInACrowd) {
    for (const std::size_t n_others : {1U, 7U, 31U}) run_in_crowd(n_others);
}

// The state after n tokens, restored to an earlier snapshot and continued, equals a fresh run.
TEST_P(Invariance, SnapshotsAtEveryPhaseOfTheCompressors) {
    const auto backend = make_cpu_backend(2);
    test::Runner runner(*backend, model);
    for (const std::size_t m : {0U,  1U,  2U,  3U,   4U,   5U,   6U,   7U,   15U,  16U,  17U,  33U,
                                34U, 35U, 36U, 126U, 127U, 128U, 129U, 130U, 131U, 255U, 256U, 257U}) {
        const auto state = runner.new_state();
        runner.prefill(*state, std::span(ids).first(m), 64);
        const KvCheckpoint checkpoint = state->checkpoint();
        runner.prefill(*state, model.tokens(static_cast<std::int64_t>(ids.size() - m), 999), 64);
        state->restore(checkpoint);
        EXPECT_EQ(state->n_tokens(), static_cast<std::int64_t>(m));
        EXPECT_EQ(runner.prefill(*state, std::span(ids).subspan(m), 50), expected_rows(m, ids.size() - m))
            << m;
    }
}

// What a state holds after n tokens is the same however they came (model.md 7.1).
TEST_P(Invariance, FrontierIsCanonical) {
    const auto backend = make_cpu_backend(2);
    test::Runner runner(*backend, model);
    for (const std::size_t n : {1U, 3U, 4U, 5U, 127U, 128U, 129U, 130U, 255U, 256U, 300U}) {
        const auto whole = runner.new_state();
        const auto single = runner.new_state();
        runner.prefill(*whole, std::span(ids).first(n), 512);
        runner.prefill(*single, std::span(ids).first(n), 1);
        EXPECT_EQ(whole->checkpoint().state, single->checkpoint().state) << n;
    }
}

TEST_P(Invariance, MtpBlock) {
    const auto run = [&](int threads, std::size_t chunk) {
        const auto backend = make_cpu_backend(threads);
        test::Runner runner(*backend, model);
        MtpForward mtp(*backend, model.config, model.mtp, model.weights, {512});
        const auto state = runner.new_state();
        const auto mtp_state = mtp.new_state();
        std::vector<float> all;
        for (std::size_t start = 0; start + 1 < ids.size(); start += chunk) {
            const std::size_t n = std::min(chunk, ids.size() - 1 - start);
            runner.step({{state.get(), std::span(ids).subspan(start, n)}});
            std::vector<std::int32_t> positions;
            for (std::size_t i = 0; i < n; ++i) positions.push_back(static_cast<std::int32_t>(start + i));
            const Segment segment{0, static_cast<std::int64_t>(n), static_cast<std::int64_t>(start)};
            KvState* states[] = {mtp_state.get()};
            mtp.run({std::span(ids).subspan(start + 1, n), positions, {&segment, 1}}, states,
                    runner.forward().streams());
            std::vector<float> logits(n * static_cast<std::size_t>(model.config.vocab));
            mtp.logits(0, static_cast<std::int64_t>(n), logits.data());
            all.insert(all.end(), logits.begin(), logits.end());
        }
        return all;
    };
    const std::vector<float> whole = run(1, 512);
    EXPECT_EQ(whole.size(), (ids.size() - 1) * static_cast<std::size_t>(model.config.vocab));
    EXPECT_EQ(run(2, 7), whole);
    EXPECT_EQ(run(4, 1), whole);
}

}  // namespace
}  // namespace ds4
