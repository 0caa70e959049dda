#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include <stdexcept>
#include <string>

#include "tokenizer/random_text.h"

namespace ds4::tokenizer {
namespace {

using testing::ElementsAre;
using Pieces = std::vector<std::string>;

Pieces split(std::string_view text) {
    static const Pretokenizer pretokenizer;
    const auto pieces = pretokenizer.split(text);
    return {pieces.begin(), pieces.end()};
}

// The plain version: each pass runs over every piece of the pass before it, with the interpreter, and nothing
// is skipped. White space is written out by hand.
class PlainPass {
  public:
    explicit PlainPass(const std::string& pattern) {
        int error = 0;
        PCRE2_SIZE offset = 0;
        code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
        if (code_ == nullptr) throw std::runtime_error("plain pattern does not compile");
        data_ = pcre2_match_data_create(1, nullptr);
    }
    PlainPass(const PlainPass&) = delete;
    PlainPass& operator=(const PlainPass&) = delete;
    ~PlainPass() {
        pcre2_match_data_free(data_);
        pcre2_code_free(code_);
    }

    Pieces split(const Pieces& input) const {
        Pieces result;
        for (const std::string& piece : input) split_one(piece, result);
        return result;
    }

  private:
    void split_one(const std::string& text, Pieces& result) const {
        std::size_t at = 0;
        while (pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NO_JIT,
                           data_, nullptr) > 0) {
            const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_);
            if (range[0] > at) result.push_back(text.substr(at, range[0] - at));
            result.push_back(text.substr(range[0], range[1] - range[0]));
            at = range[1];
        }
        if (at < text.size()) result.push_back(text.substr(at));
    }

    pcre2_code* code_;
    pcre2_match_data* data_;
};

Pieces plain_split(const std::string& text) {
    static const std::string space =
        "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"
        "\\x{3000}";
    static const PlainPass digits("\\p{N}{1,3}");
    static const PlainPass cjk("[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+");
    static const PlainPass words(
        "[\\x{21}-\\x{2F}\\x{3A}-\\x{40}\\x{5B}-\\x{60}\\x{7B}-\\x{7E}][A-Za-z]+"
        "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\\r\\n]*"
        "|[" +
        space +
        "]*[\\r\\n]+"
        "|[" +
        space + "]+(?![^" + space +
        "])"
        "|[" +
        space + "]+");
    if (text.empty()) return {};
    return words.split(cjk.split(digits.split({text})));
}

TEST(Pretokenizer, SplitsByTheRules) {
    EXPECT_THAT(split(""), ElementsAre());
    EXPECT_THAT(split("Hello, world!"), ElementsAre("Hello", ",", " world", "!"));
    EXPECT_THAT(split("a    b"), ElementsAre("a", "   ", " b"));
    EXPECT_THAT(split("x 12345"), ElementsAre("x", " ", "123", "45"));
    EXPECT_THAT(split("x  12"), ElementsAre("x", "  ", "12"));
    EXPECT_THAT(split("f();\n\nx"), ElementsAre("f", "();\n\n", "x"));
    EXPECT_THAT(split("don't"), ElementsAre("don", "'t"));
    EXPECT_THAT(split("ab\u4F60\u597Dc"), ElementsAre("ab", "\u4F60\u597D", "c"));
    EXPECT_THAT(split(" \n \n x"), ElementsAre(" \n \n", " x"));
    EXPECT_THAT(split("a\u0665\u0666\u0667\u0668"), ElementsAre("a", "\u0665\u0666\u0667", "\u0668"));
}

TEST(Pretokenizer, WhiteSpaceIsTheUnicodeProperty) {
    EXPECT_THAT(split("\u0085\u0085"), ElementsAre("\u0085\u0085"));
    EXPECT_THAT(split("\u2028\u3000."), ElementsAre("\u2028", "\u3000", "."));
    // Not white space: the Mongolian vowel separator and the zero-width space are format characters, which no
    // pattern matches on their own; the blank after them is a piece of its own.
    EXPECT_THAT(split("\u180E "), ElementsAre("\u180E", " "));
    EXPECT_THAT(split(" \u180E"), ElementsAre(" ", "\u180E"));
    EXPECT_THAT(split("\u200Bab"), ElementsAre("\u200Bab"));
}

TEST(Pretokenizer, BytesThatAreNotUtf8ArePiecesOfTheirOwn) {
    EXPECT_THAT(split("ab\xFF\xFE"
                      "cd"),
                ElementsAre("ab", "\xFF\xFE", "cd"));
    EXPECT_THAT(split("\xE4\xBD"), ElementsAre("\xE4\xBD"));
    EXPECT_THAT(split(" \xE4\xBD "), ElementsAre(" ", "\xE4\xBD", " "));
    EXPECT_THAT(split("\xED\xA0\x80x"), ElementsAre("\xED\xA0\x80", "x"));
}

TEST(Pretokenizer, EqualsThePlainVersionOnRandomText) {
    std::mt19937 rng(1);
    for (int i = 0; i < 4000; ++i) {
        const std::string text = test::random_text(rng, 1 + test::random_below(rng, 30));
        ASSERT_EQ(split(text), plain_split(text)) << text;
    }
}

TEST(Pretokenizer, EqualsThePlainVersionOnEveryCharacterInContext) {
    // Each character of the Basic Multilingual Plane between a blank, itself and a letter.
    for (unsigned c = 1; c < 0xFFFE; ++c) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        std::string one;
        if (c < 0x80) {
            one = {static_cast<char>(c)};
        } else if (c < 0x800) {
            one = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
        } else {
            one = {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
                   static_cast<char>(0x80 | (c & 0x3F))};
        }
        const std::string text = "a " + one + one + "b " + one + "\n";
        ASSERT_EQ(split(text), plain_split(text)) << std::hex << c;
    }
}

TEST(Pretokenizer, PiecesCoverAnyBytes) {
    std::mt19937 rng(2);
    for (int i = 0; i < 500; ++i) {
        const std::string text = test::random_bytes(rng, test::random_below(rng, 200));
        std::string joined;
        for (const std::string& piece : split(text)) {
            EXPECT_FALSE(piece.empty());
            joined += piece;
        }
        EXPECT_EQ(joined, text);
    }
}

TEST(Pretokenizer, TakesHugeRuns) {
    for (const char* unit : {"a", " ", "\n", "\t ", "!", "1", "\u4F60", "\u3000", "\x01", "\xFF", "\u0301"}) {
        std::string text;
        while (text.size() < 4'000'000) text += unit;
        std::size_t total = 0;
        for (const std::string& piece : split(text)) total += piece.size();
        EXPECT_EQ(total, text.size()) << unit;
    }
}

}  // namespace
}  // namespace ds4::tokenizer
