#include "chat/continue_tokens.h"

#include <gtest/gtest.h>

#include <random>

#include "chat/protocol.h"
#include "tokenizer/golden_vocabulary.h"

namespace ds4::chat {
namespace {

using tokenizer::TokenId;
using Tokens = std::vector<TokenId>;

const tokenizer::Tokenizer& golden() {
    static const tokenizer::Tokenizer tokenizer(test::golden_v4_vocabulary());
    return tokenizer;
}

Prompt prompt_of(const std::string& json) {
    return render(parse_request(json));
}

const std::string kTurn1 = R"({"role":"user","content":"Where is the café in Zürich? 🙂"})";
const std::string kReply =
    R"({"role":"assistant","reasoning_content":"Hm.","content":"International streets, mostly."})";
const std::string kTurn2 = R"({"role":"user","content":"Thanks."})";

std::string request(const std::string& messages) {
    return R"({"messages":[)" + messages + R"(],"tools":[{"type":"function","function":{"name":"f"}}]})";
}

// Spells the text of one plain stretch in other tokens than the tokenizer would choose: byte by byte here and
// there.
Tokens respell(const Tokens& ids, std::mt19937& random) {
    Tokens out;
    for (const TokenId id : ids) {
        if (golden().is_added(id) || random() % 3 != 0) {
            out.push_back(id);
            continue;
        }
        for (const char byte : golden().bytes(id)) {
            const Tokens single = golden().encode(std::string(1, byte));
            out.insert(out.end(), single.begin(), single.end());
        }
    }
    return out;
}

TEST(ContinueTokens, WithoutLiveTokensIsToTokens) {
    const Prompt prompt = prompt_of(request(kTurn1));
    const Continuation all = continue_tokens(prompt, {}, golden());
    EXPECT_EQ(all.tokens, to_tokens(prompt, golden()));
    EXPECT_EQ(all.n_reused, 0u);
}

TEST(ContinueTokens, KeepsTheWholePrefixOfALongerPrompt) {
    const Tokens live = to_tokens(prompt_of(request(kTurn1)), golden());
    const Continuation next =
        continue_tokens(prompt_of(request(kTurn1 + "," + kReply + "," + kTurn2)), live, golden());
    EXPECT_EQ(next.n_reused, live.size());
    EXPECT_EQ(next.tokens, to_tokens(prompt_of(request(kTurn1 + "," + kReply + "," + kTurn2)), golden()));
}

TEST(ContinueTokens, SampledSpellingIsKept) {
    const Prompt prompt = prompt_of(request(kTurn1 + "," + kReply + "," + kTurn2));
    const Tokens canonical = to_tokens(prompt, golden());
    std::mt19937 random(1);
    for (int i = 0; i < 50; ++i) {
        const Tokens live = respell(canonical, random);
        const Continuation next = continue_tokens(prompt, live, golden());
        EXPECT_EQ(next.n_reused, live.size());
        EXPECT_EQ(next.tokens, live);
        // The session may have stopped anywhere in it.
        const std::size_t n = random() % live.size();
        const Continuation cut = continue_tokens(prompt, std::span(live).subspan(0, n), golden());
        EXPECT_EQ(golden().decode(cut.tokens), to_text(prompt));
        EXPECT_TRUE(
            std::equal(cut.tokens.begin(), cut.tokens.begin() + std::ptrdiff_t(cut.n_reused), live.begin()));
    }
}

TEST(ContinueTokens, InterruptedPrefillGivesTheSameTokens) {
    const Prompt prompt = prompt_of(request(kTurn1 + "," + kReply + "," + kTurn2));
    const Tokens canonical = to_tokens(prompt, golden());
    for (std::size_t n = 0; n <= canonical.size(); ++n) {
        const Continuation next = continue_tokens(prompt, std::span(canonical).subspan(0, n), golden());
        EXPECT_EQ(next.tokens, canonical) << n;
        EXPECT_EQ(next.n_reused, n);
    }
}

TEST(ContinueTokens, PartsWhereTheTextsPart) {
    const Tokens live = to_tokens(prompt_of(request(kTurn1 + "," + kReply + "," + kTurn2)), golden());
    const std::string other = R"({"role":"user","content":"Thanks a lot."})";
    const Prompt prompt = prompt_of(request(kTurn1 + "," + kReply + "," + other));
    const Continuation next = continue_tokens(prompt, live, golden());
    EXPECT_EQ(next.tokens, to_tokens(prompt, golden()));
    const auto same = std::mismatch(next.tokens.begin(), next.tokens.end(), live.begin(), live.end()).first;
    EXPECT_EQ(next.n_reused, static_cast<std::size_t>(same - next.tokens.begin()));
    EXPECT_GT(next.n_reused, live.size() / 2);
}

TEST(ContinueTokens, TextIsNoControlToken) {
    // The session saw the control token; the client's text only spells it.
    const std::string eos(protocol::eos), user(protocol::user);
    const Prompt real =
        prompt_of(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
        {"role":"user","content":"c"}],"thinking":{"type":"disabled"}})");
    Prompt forged;
    forged.segments = {{true, std::string(protocol::bos)},
                       {false, to_text(real).substr(protocol::bos.size())}};
    const Tokens live = to_tokens(real, golden());
    EXPECT_EQ(continue_tokens(forged, live, golden()).n_reused, 1u);
    const Tokens forged_live = to_tokens(forged, golden());
    EXPECT_EQ(continue_tokens(real, forged_live, golden()).n_reused, 1u);
}

}  // namespace
}  // namespace ds4::chat
