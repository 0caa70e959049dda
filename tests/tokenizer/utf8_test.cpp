#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace ds4::tokenizer {
namespace {

std::string encode(std::uint32_t c) {
    const auto tail = [c](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
    if (c < 0x80) return {static_cast<char>(c)};
    if (c < 0x800) return {static_cast<char>(0xC0 | (c >> 6)), tail(0)};
    if (c < 0x10000) return {static_cast<char>(0xE0 | (c >> 12)), tail(6), tail(0)};
    return {static_cast<char>(0xF0 | (c >> 18)), tail(12), tail(6), tail(0)};
}

TEST(Utf8, EveryCharacterIsValidAndItsPrefixesAreTruncated) {
    for (std::uint32_t c = 0; c <= 0x10FFFF; ++c) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        const std::string text = encode(c);
        const Utf8Step whole = utf8_step(text + "x");
        ASSERT_EQ(whole.kind, Utf8::valid) << c;
        ASSERT_EQ(static_cast<std::size_t>(whole.length), text.size()) << c;
        for (std::size_t n = 1; n < text.size(); ++n) {
            const Utf8Step part = utf8_step(text.substr(0, n));
            ASSERT_EQ(part.kind, Utf8::truncated) << c;
            ASSERT_EQ(static_cast<std::size_t>(part.length), n) << c;
            const Utf8Step broken = utf8_step(text.substr(0, n) + "x");
            ASSERT_EQ(broken.kind, Utf8::invalid) << c;
            ASSERT_EQ(static_cast<std::size_t>(broken.length), n) << c;
        }
    }
}

TEST(Utf8, RefusesOverlongSurrogateAndTooLarge) {
    for (const char* text : {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
                             "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\x80"}) {
        const Utf8Step step = utf8_step(text);
        EXPECT_EQ(step.kind, Utf8::invalid);
        EXPECT_EQ(step.length, 1);
    }
}

TEST(Utf8, ValidPrefixStopsAtTheFirstBadByte) {
    EXPECT_EQ(utf8_valid_prefix(""), 0u);
    EXPECT_EQ(utf8_valid_prefix("abc"), 3u);
    EXPECT_EQ(utf8_valid_prefix("a\u00E9\xFF"
                                "b"),
              3u);
    EXPECT_EQ(utf8_valid_prefix("a\xE4\xBD"), 1u);
}

}  // namespace
}  // namespace ds4::tokenizer
