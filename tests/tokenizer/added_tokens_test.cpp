#include "tokenizer/added_tokens.h"

#include <gtest/gtest.h>

#include "ds4/error.h"
#include "tokenizer/random_text.h"

namespace ds4::tokenizer {
namespace {

using List = std::vector<std::pair<std::string, std::int32_t>>;

TEST(AddedTokens, FindsWholeStringsOnly) {
    const AddedTokens tokens(List{{"<a>", 7}, {"<ab>", 8}});
    EXPECT_EQ(tokens.find("<a>"), 7);
    EXPECT_EQ(tokens.find("<ab>"), 8);
    EXPECT_EQ(tokens.find("<a"), std::nullopt);
    EXPECT_EQ(tokens.find("<abc>"), std::nullopt);
    EXPECT_EQ(tokens.find(""), std::nullopt);
    EXPECT_EQ(AddedTokens().find("x"), std::nullopt);
}

TEST(AddedTokens, LeftmostThenLongest) {
    const AddedTokens tokens(List{{"ab", 1}, {"abcd", 2}, {"bcde", 3}});
    const auto match = tokens.search("xabcde", 0);
    ASSERT_TRUE(match);
    EXPECT_EQ(match->begin, 1u);
    EXPECT_EQ(match->length, 4u);
    EXPECT_EQ(match->id, 2);
    EXPECT_EQ(tokens.search("xabc", 0)->id, 1);
    EXPECT_EQ(tokens.search("xabcde", 2)->id, 3);
    EXPECT_FALSE(tokens.search("xabcde", 3));
}

TEST(AddedTokens, EqualsComparingEveryTokenEverywhere) {
    std::mt19937 rng(4);
    const auto random_word = [&](std::size_t longest) {
        std::string word;
        const std::size_t n = 1 + test::random_below(rng, longest);
        for (std::size_t i = 0; i < n; ++i) word += static_cast<char>("ab\xEF"[test::random_below(rng, 3)]);
        return word;
    };
    for (int round = 0; round < 500; ++round) {
        List list;
        for (std::int32_t id = 0; id < 6; ++id) {
            const std::string word = random_word(4);
            bool is_new = true;
            for (const auto& token : list) is_new = is_new && token.first != word;
            if (is_new) list.emplace_back(word, id);
        }
        const AddedTokens tokens(list);
        const std::string text = random_word(12);
        for (std::size_t from = 0; from <= text.size(); ++from) {
            std::optional<AddedTokens::Match> expected;
            for (std::size_t at = from; at < text.size() && !expected; ++at) {
                for (const auto& [word, id] : list) {
                    const bool matches = text.compare(at, word.size(), word) == 0;
                    if (matches && (!expected || word.size() > expected->length)) {
                        expected = AddedTokens::Match{at, word.size(), id};
                    }
                }
            }
            const auto match = tokens.search(text, from);
            ASSERT_EQ(match.has_value(), expected.has_value());
            if (match) {
                ASSERT_EQ(match->begin, expected->begin);
                ASSERT_EQ(match->id, expected->id);
            }
        }
    }
}

TEST(AddedTokens, RefusesEmptyAndRepeatedStrings) {
    EXPECT_THROW(AddedTokens(List{{"", 1}}), TokenizerError);
    EXPECT_THROW(AddedTokens(List{{"x", 1}, {"x", 2}}), TokenizerError);
}

}  // namespace
}  // namespace ds4::tokenizer
