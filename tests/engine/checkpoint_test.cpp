#include "ds4/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "engine/sessions.h"
#include "tokenizer/tokenizer.h"

namespace ds4 {
namespace {

class Checkpoints : public test::Sessions {
  protected:
    // Logits after `tokens`, computed by a session of its own.
    static std::vector<float> fresh(std::span<const TokenId> tokens) {
        static std::map<std::vector<TokenId>, std::vector<float>> known;
        std::vector<float>& logits = known[{tokens.begin(), tokens.end()}];
        if (logits.empty()) {
            const auto session = engine().new_session();
            session->append(tokens);
            logits = copy(session->logits());
        }
        return logits;
    }

    std::vector<TokenId> with(std::int64_t n, const std::vector<TokenId>& more) const {
        std::vector<TokenId> all(ids.begin(), ids.begin() + n);
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
};

// At every place of the compressors' windows and on both sides of a page's end.
TEST_F(Checkpoints, ForksGoTheirOwnWays) {
    const std::vector<TokenId> left{5, 6, 7, 8, 9, 10}, right{11, 12, 13, 14, 15, 16};
    for (const std::int64_t n : {1, 3, 4, 5, 127, 128, 129, 255, 256, 257}) {
        const auto trunk = engine().new_session();
        trunk->append(std::span(ids).first(static_cast<std::size_t>(n)));
        const CheckpointPtr point = trunk->mark();
        ASSERT_EQ(point->n_tokens(), n);
        const auto a = engine().resume({&point, 1});
        const auto b = engine().resume({&point, 1});
        EXPECT_EQ(copy(a->logits()), copy(trunk->logits()));
        // All three write to what they share, by turns.
        for (std::size_t i = 0; i < left.size(); ++i) {
            a->append({&left[i], 1});
            b->append({&right[i], 1});
            trunk->append(std::span(ids).subspan(static_cast<std::size_t>(n) + i, 1));
        }
        EXPECT_EQ(copy(a->logits()), fresh(with(n, left))) << n;
        EXPECT_EQ(copy(b->logits()), fresh(with(n, right))) << n;
        EXPECT_EQ(copy(trunk->logits()), fresh(std::span(ids).first(static_cast<std::size_t>(n) + 6))) << n;
        const auto tokens = a->tokens();
        EXPECT_EQ(std::vector<TokenId>(tokens.begin(), tokens.end()), with(n, left));
        EXPECT_EQ(a->mark()->tokens(n), left);
    }
}

TEST_F(Checkpoints, SharedRowsAreHeldOnce) {
    const std::size_t before = engine().kv_bytes();
    {
        const auto trunk = engine().new_session();
        trunk->append(ids);
        const std::size_t one = engine().kv_bytes() - before;
        const CheckpointPtr point = trunk->mark();
        const std::size_t marked = engine().kv_bytes() - before;
        EXPECT_EQ(marked - one, point->bytes());
        const auto empty = engine().new_session();
        const std::size_t own = engine().kv_bytes() - before - marked;
        std::vector<std::unique_ptr<Session>> forks;
        for (int i = 0; i < 10; ++i) forks.push_back(engine().resume({&point, 1}));
        EXPECT_EQ(engine().kv_bytes() - before, marked + 11 * own);
    }
    EXPECT_EQ(engine().kv_bytes(), before);
}

// A checkpoint outlives its session.
TEST_F(Checkpoints, AreForGood) {
    CheckpointPtr point;
    {
        const auto session = engine().new_session();
        session->append(std::span(ids).first(200));
        point = session->mark();
        session->append(std::span(ids).subspan(200));
    }
    const auto session = engine().resume({&point, 1});
    session->append(std::span(ids).subspan(200));
    EXPECT_EQ(copy(session->logits()), fresh(ids));
    EXPECT_THROW(engine().resume({&point, 1}, 100), ContextError);
}

TEST_F(Checkpoints, ComeBackFromTheirBytes) {
    const auto session = engine().new_session();
    std::vector<CheckpointPtr> points;
    for (const std::size_t n : {70U, 58U, 129U, 3U}) {
        session->append(std::span(ids).subspan(static_cast<std::size_t>(session->n_tokens()), n));
        points.push_back(session->mark());
    }
    const auto loader = engine().load_checkpoint();
    for (const CheckpointPtr& point : points) {
        const std::int64_t from = loader->n_tokens();
        std::vector<std::byte> rows(point->rows_bytes(from));
        EXPECT_EQ(rows.size(), loader->rows_bytes(point->n_tokens() - from));
        point->read_rows(from, rows);
        loader->add(point->tokens(from), rows);
    }
    EXPECT_EQ(loader->state_bytes(0), points.back()->state().size());
    EXPECT_THROW(loader->finish(points[1]->state(), points[1]->logits()), Error);
    EXPECT_THROW(loader->finish(points.back()->state(), {}), Error);
    const TokenId beyond = 320;
    EXPECT_THROW(loader->add({&beyond, 1}, {}), Error);
    const CheckpointPtr loaded = loader->finish(points.back()->state(), points.back()->logits());
    session->append(std::span(ids).subspan(260));
    const auto resumed = engine().resume({&loaded, 1});
    EXPECT_EQ(copy(resumed->logits()), fresh(std::span(ids).first(260)));
    resumed->append(std::span(ids).subspan(260));
    EXPECT_EQ(copy(resumed->logits()), copy(session->logits()));
}

TEST_F(Checkpoints, ASessionKeepsTheNearPoints) {
    const auto session = engine().new_session();
    for (std::size_t i = 0; i < 120; ++i) {
        session->append(std::span(ids).subspan(i, 1));
        session->mark();
    }
    const auto points = session->points();
    EXPECT_LE(points.size(), 32U);
    for (std::size_t i = 1; i <= 6; ++i) {
        EXPECT_EQ(points[points.size() - i]->n_tokens(), 121 - static_cast<std::int64_t>(i));
    }
    // However far back: a third of the way or less has to be done again.
    for (std::int64_t n = 1; n <= 120; ++n) {
        const auto after =
            std::upper_bound(points.begin(), points.end(), n,
                             [](std::int64_t m, const CheckpointPtr& p) { return m < p->n_tokens(); });
        const std::int64_t at = after == points.begin() ? 0 : after[-1]->n_tokens();
        EXPECT_LE(n - at, std::max<std::int64_t>(1, (121 - n) / 3 + 2)) << n;
    }
    session->keep_points(4);
    EXPECT_EQ(session->points().size(), 4U);
    EXPECT_EQ(session->points().back()->n_tokens(), 120);
}

// F16 for the rotated dims against f32, with the bundled model on text it was not made for. Any disturbance
// moves some value over a rounding boundary, so single choices differ; what the text is worth to it does not.
// Seen on 1500 tokens: 0.0001 and 1456 of 1500 for packed rows, 0.008 and 1466 for F16.
TEST(KvRows, PackedRowsPredictTextAsF32Does) {
    constexpr std::size_t kTokens = 100;  // sanitizers take their time
    struct Prediction {
        double logprob = 0;  // mean, of the token that comes
        std::vector<std::ptrdiff_t> best;
    };
    const auto predict = [](KvRows rows) {
        EngineOptions options;
        options.model = DS4_TEST_DATA "/../../models/ds4-tiny.gguf";
        options.kv_rows = rows;
        const auto engine = Engine::open(options);
        // What it was trained on: elsewhere it guesses, and guesses turn on the last bit.
        std::ifstream file(DS4_TEST_DATA "/../../tools/train/text/definitions.txt");
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        std::vector<TokenId> tokens = engine->tokenizer().encode(text);
        tokens.resize(kTokens);
        Prediction prediction;
        Session::AppendOptions look;
        look.on_logits = [&](std::int64_t position, std::span<const float> logits) {
            const auto next = static_cast<std::size_t>(position) + 1;
            prediction.best.push_back(std::max_element(logits.begin(), logits.end()) - logits.begin());
            if (next < tokens.size())
                prediction.logprob += static_cast<double>(logprob(logits, tokens[next])) / (kTokens - 1);
        };
        engine->new_session()->append(tokens, look);
        return prediction;
    };
    const Prediction wide = predict(KvRows::f32);
    for (const KvRows rows : {KvRows::packed, KvRows::f16}) {
        const Prediction narrow = predict(rows);
        EXPECT_NEAR(narrow.logprob, wide.logprob, 0.02) << wide.logprob;
        std::size_t same = 0;
        for (std::size_t i = 0; i < wide.best.size(); ++i) same += wide.best[i] == narrow.best[i] ? 1 : 0;
        EXPECT_GE(same, kTokens * 9 / 10);
    }
}

}  // namespace
}  // namespace ds4
