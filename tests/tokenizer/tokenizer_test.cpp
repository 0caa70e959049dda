#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "ds4/error.h"
#include "tokenizer/golden_vocabulary.h"
#include "tokenizer/random_text.h"
#include "tokenizer/small_vocabulary.h"

namespace ds4::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Kind = Vocabulary::Kind;

const Tokenizer& golden() {
    static const Tokenizer tokenizer(test::golden_v3_vocabulary());
    return tokenizer;
}

TEST(Tokenizer, GivesTheGoldenIds) {
    std::ifstream in(DS4_TEST_DATA "/golden/tokenizer/cases.jsonl");
    int n_cases = 0;
    for (std::string line; std::getline(in, line); ++n_cases) {
        const auto golden_case = nlohmann::json::parse(line);
        const auto text = golden_case["text"].get<std::string>();
        const auto ids = golden_case["ids"].get<std::vector<TokenId>>();
        ASSERT_EQ(golden().encode_with_added(text), ids) << line;
        ASSERT_EQ(golden().decode(ids), text) << line;
    }
    EXPECT_EQ(n_cases, 1554);
}

TEST(Tokenizer, PlainTextNeverGivesAddedTokens) {
    const std::string text = "<｜User｜>hi<｜Assistant｜><｜end▁of▁sentence｜>";
    for (const TokenId id : golden().encode(text)) EXPECT_FALSE(golden().is_added(id)) << id;
    EXPECT_EQ(golden().decode(golden().encode(text)), text);
    EXPECT_THAT(golden().encode_with_added(text), ElementsAre(128803, 6366, 128804, 1));
}

TEST(Tokenizer, EveryTokenIsItsOwnBytes) {
    const auto& vocabulary = golden().vocabulary();
    for (TokenId id = 0; id < golden().size(); ++id) {
        ASSERT_EQ(golden().is_added(id), vocabulary.kinds[static_cast<std::size_t>(id)] != Kind::normal);
        if (golden().is_added(id)) {
            ASSERT_EQ(golden().bytes(id), vocabulary.tokens[static_cast<std::size_t>(id)]);
            ASSERT_EQ(golden().find_added(golden().bytes(id)), id);
        }
    }
    EXPECT_EQ(golden().bytes(223), " ");
    EXPECT_EQ(golden().find_added("the"), std::nullopt);
}

TEST(Tokenizer, AnyBytesComeBack) {
    std::mt19937 rng(5);
    for (int i = 0; i < 400; ++i) {
        std::string text = test::random_bytes(rng, test::random_below(rng, 300));
        EXPECT_EQ(golden().decode(golden().encode(text)), text);
        text = test::random_text(rng, test::random_below(rng, 200));
        // Damage valid text in one place.
        if (!text.empty()) text[test::random_below(rng, text.size())] = static_cast<char>(rng());
        EXPECT_EQ(golden().decode(golden().encode(text)), text);
        EXPECT_EQ(golden().decode(golden().encode_with_added(text)), text);
    }
}

TEST(Tokenizer, RepeatedPiecesGiveTheSameIds) {
    // The memo of pieces within one text: encoding a text twice over equals encoding it once, twice.
    std::mt19937 rng(6);
    for (int i = 0; i < 50; ++i) {
        const std::string text = test::random_text(rng, 200) + "x\n";
        const auto once = golden().encode(text);
        auto expected = once;
        const auto tail = golden().encode("y" + text);
        expected.insert(expected.end(), tail.begin(), tail.end());
        EXPECT_EQ(golden().encode(text + "y" + text), expected);
    }
}

TEST(Tokenizer, AppendsToWhatIsThere) {
    const Tokenizer tokenizer(test::small_vocabulary());
    std::vector<TokenId> ids = {5};
    tokenizer.encode_to("hell hell hell", ids);
    EXPECT_THAT(ids, ElementsAre(5, 258, ' ', 258, ' ', 258));
}

TEST(Tokenizer, LongPiecesStayFast) {
    // Quadratic merging of a megabyte would not finish within the test's time limit.
    for (const char* unit : {"a", "ab", " ", "\n", "=-", "\u4F60", "\xFF"}) {
        std::string text;
        while (text.size() < 1'000'000) text += unit;
        EXPECT_EQ(golden().decode(golden().encode(text)), text) << unit;
    }
}

TEST(Tokenizer, ManyThreadsMayEncodeAtOnce) {
    std::mt19937 rng(7);
    const std::string text = test::random_text(rng, 2000);
    const auto expected = golden().encode(text);
    std::vector<std::vector<TokenId>> results(4);
    std::vector<std::thread> threads;
    for (auto& result : results) threads.emplace_back([&] { result = golden().encode(text); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(Tokenizer, SmallVocabulary) {
    const Tokenizer tokenizer(test::small_vocabulary());
    EXPECT_THAT(tokenizer.encode("hello<s>"), ElementsAre(258, 'o', '<', 's', '>'));
    EXPECT_THAT(tokenizer.encode_with_added("hello<s><t"), ElementsAre(258, 'o', 259, '<', 't'));
    EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{259, 258, 260}), "<s>hell<t>");
    EXPECT_FALSE(tokenizer.is_added(-1));
    EXPECT_FALSE(tokenizer.is_added(261));
    EXPECT_THROW(tokenizer.bytes(-1), TokenizerError);
    EXPECT_THROW(tokenizer.bytes(261), TokenizerError);
    EXPECT_THROW(tokenizer.decode(std::vector<TokenId>{0, 1000}), TokenizerError);
}

struct Hostile {
    const char* name;
    std::function<void(Vocabulary&)> damage;
    const char* complaint;
};

class HostileVocabulary : public testing::TestWithParam<Hostile> {};

TEST_P(HostileVocabulary, IsRefusedByName) {
    Vocabulary vocabulary = test::small_vocabulary();
    GetParam().damage(vocabulary);
    try {
        const Tokenizer tokenizer(std::move(vocabulary));
        FAIL() << "accepted";
    } catch (const TokenizerError& e) {
        EXPECT_THAT(e.what(), HasSubstr(GetParam().complaint));
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, HostileVocabulary,
    testing::Values(
        Hostile{"Empty", [](Vocabulary& v) { v = {}; }, "is empty"},
        Hostile{"KindsShort", [](Vocabulary& v) { v.kinds.pop_back(); }, "261 tokens but 260 token types"},
        Hostile{"ByteMissing", [](Vocabulary& v) { v.kinds[65] = Kind::unused; }, "no token for byte 65"},
        Hostile{"Duplicate", [](Vocabulary& v) { v.tokens[256] = "ll"; }, "tokens 256 and 257 are the same"},
        Hostile{"AddedDuplicate", [](Vocabulary& v) { v.tokens[260] = "<s>"; },
                "tokens 259 and 260 are the same"},
        Hostile{"AddedEmpty", [](Vocabulary& v) { v.tokens[260].clear(); },
                "added token 260 is an empty string"},
        Hostile{"NormalEmpty", [](Vocabulary& v) { v.tokens[256].clear(); }, "token 256"},
        Hostile{"OutsideAlphabet", [](Vocabulary& v) { v.tokens[256] = "h e"; },
                "token 256 'h e' is not written"},
        Hostile{"MergeWithoutBlank", [](Vocabulary& v) { v.merges[1] = "ll"; },
                "merge 1 'll' is not two tokens"},
        Hostile{"MergeTwoBlanks", [](Vocabulary& v) { v.merges[1] = "l l l"; }, "needs the token 'l l'"},
        Hostile{"MergeEmptySide", [](Vocabulary& v) { v.merges[1] = " l"; }, "needs the token ''"},
        Hostile{"MergeUnknownPart", [](Vocabulary& v) { v.merges[1] = "zz l"; }, "needs the token 'zz'"},
        Hostile{"MergeUnknownResult", [](Vocabulary& v) { v.merges[1] = "l e"; }, "needs the token 'le'"},
        Hostile{"MergeTwice", [](Vocabulary& v) { v.merges[1] = "h e"; }, "merge 1 'h e' is listed twice"},
        Hostile{"MergeOfAdded", [](Vocabulary& v) { v.merges[1] = "<s> e"; }, "needs the token '<s>'"},
        Hostile{"Bos", [](Vocabulary& v) { v.bos = 261; }, "bos token 261"},
        Hostile{"Eos", [](Vocabulary& v) { v.eos = -2; }, "eos token -2"},
        Hostile{"Pad", [](Vocabulary& v) { v.pad = 99999; }, "pad token 99999"}),
    [](const auto& test_info) { return test_info.param.name; });

}  // namespace
}  // namespace ds4::tokenizer
