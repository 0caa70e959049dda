// A request's tokens and the logits of the whole vocabulary behind each are bit for bit the same however it
// is computed: alone, in company, admitted into running steps, cut into other chunks, or gone on with from
// memory or from the disk.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "ds4/sampling.h"
#include "kv/oracle.h"
#include "kv/stores.h"

namespace ds4::test {
namespace {

constexpr std::size_t kPrompt = 150;
constexpr std::size_t kAnswer = 14;
constexpr std::size_t kRowsOfAStep = 64;

struct Answer {
    std::vector<TokenId> tokens;
    std::vector<std::uint64_t> logits;  // digests, before each token
    bool operator==(const Answer&) const = default;
};

// The others in a step: each at a place of its own, some of them leave and new ones come.
class Crowd {
  public:
    Crowd(Engine& engine, std::span<const TokenId> ids, std::size_t n) : engine_(engine), ids_(ids) {
        for (std::size_t i = 0; i < n; ++i) {
            members_.push_back(engine.new_session());
            members_.back()->append(ids.subspan(i, 1 + i * 7 % 40));
        }
    }

    // A step with everybody, and these tokens of the session that is watched somewhere among them.
    void step(Session& watched, std::span<const TokenId> tokens) {
        ++n_steps_;
        for (std::size_t i = n_steps_ % 3; i < members_.size() && n_steps_ % 4 == 0; i += 3)
            members_[i] = engine_.new_session();
        std::vector<Engine::Work> work;
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (i == members_.size() / 2) work.push_back({&watched, tokens});
            const auto at = static_cast<std::size_t>(members_[i]->n_tokens());
            work.push_back({members_[i].get(), ids_.subspan((i + at) % 290, 1)});
        }
        if (members_.empty()) work.push_back({&watched, tokens});
        engine_.step(work);
    }

    std::size_t size() const { return members_.size(); }

  private:
    Engine& engine_;
    const std::span<const TokenId> ids_;
    std::vector<std::unique_ptr<Session>> members_;
    std::size_t n_steps_ = 0;
};

class SameAnswer : public Stores {
  protected:
    SameAnswer() : Stores(fast_directory()) {}

    // Chooses and appends until the answer has this many tokens.
    static void go_on(Crowd& crowd, Session& session, Answer& answer, std::size_t until = kAnswer) {
        Sampling sampling;
        sampling.seed = 11;
        while (answer.tokens.size() < until) {
            answer.logits.push_back(Oracle::digest(session.logits()));
            answer.tokens.push_back(sample(session.logits(), sampling, session.n_tokens()));
            crowd.step(session, {&answer.tokens.back(), 1});
        }
    }

    // The prompt from where the session stands, in random chunks of at most so many tokens, then the answer.
    Answer ask(Session& session, std::size_t n_others, std::size_t largest_chunk) {
        Crowd crowd(engine(), ids, n_others);
        std::mt19937 random(static_cast<unsigned>(n_others + largest_chunk));
        while (static_cast<std::size_t>(session.n_tokens()) < kPrompt) {
            const auto at = static_cast<std::size_t>(session.n_tokens());
            const std::size_t room = std::min({largest_chunk, kRowsOfAStep - crowd.size(), kPrompt - at});
            crowd.step(session, std::span(ids).subspan(at, 1 + random() % room));
        }
        Answer answer;
        go_on(crowd, session, answer);
        return answer;
    }

    Answer ask_anew(std::size_t n_others, std::size_t largest_chunk) {
        const auto session = engine().new_session();
        return ask(*session, n_others, largest_chunk);
    }

    CheckpointPtr through_the_disk(const CheckpointPtr& point) {
        kv::Store(options(), engine()).save(save_of(point));
        kv::Store store(options(), engine());
        const auto found = store.find(key_of(point->tokens()));
        const auto loaded = store.load(found.at(0));
        EXPECT_EQ(loaded->points.back()->n_tokens(), point->n_tokens());
        return loaded->points.back();
    }
};

TEST_F(SameAnswer, AloneInACrowdAndInOtherChunks) {
    const auto session = engine().new_session();
    session->append(std::span(ids).first(kPrompt));
    Crowd nobody(engine(), ids, 0);
    Answer expected;
    go_on(nobody, *session, expected);
    EXPECT_EQ(expected.logits.size(), kAnswer);
    struct Way {
        std::size_t n_others, largest_chunk;
    };
    for (const auto& [n_others, largest_chunk] : {Way{0, 1}, Way{0, 9}, Way{1, 64}, Way{7, 9}, Way{31, 64}}) {
        EXPECT_EQ(ask_anew(n_others, largest_chunk), expected)
            << n_others << " others, chunks up to " << largest_chunk;
    }
}

TEST_F(SameAnswer, FromMemoryAndFromTheDisk) {
    const Answer expected = ask_anew(0, 64);
    for (const std::size_t n : {9U, 128U, 149U}) {
        const auto before = session(n);
        const CheckpointPtr point = before->mark();
        const CheckpointPtr stored = through_the_disk(point);
        for (const std::size_t n_others : {0U, 7U}) {
            EXPECT_EQ(ask(*engine().resume({&point, 1}), n_others, 20), expected) << n << " in memory";
            EXPECT_EQ(ask(*engine().resume({&stored, 1}), n_others, 20), expected) << n << " on disk";
        }
    }
}

TEST_F(SameAnswer, GoneOnWithInTheMiddleOfIt) {
    const Answer expected = ask_anew(0, 64);
    const auto before = session(kPrompt);
    Crowd nobody(engine(), ids, 0), crowd(engine(), ids, 31);
    Answer start;
    go_on(nobody, *before, start, 5);
    const CheckpointPtr point = before->mark();
    for (const CheckpointPtr& from : {point, through_the_disk(point)}) {
        Answer answer = start;
        go_on(crowd, *engine().resume({&from, 1}), answer);
        EXPECT_EQ(answer, expected);
    }
}

}  // namespace
}  // namespace ds4::test
