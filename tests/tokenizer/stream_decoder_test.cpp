#include <gtest/gtest.h>

#include "ds4/error.h"
#include "tokenizer/random_text.h"
#include "tokenizer/small_vocabulary.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace ds4::tokenizer {
namespace {

const Tokenizer& small() {
    static const Tokenizer tokenizer(test::small_vocabulary());
    return tokenizer;
}

std::string decode_at_once(std::string_view bytes) {
    StreamDecoder decoder(small());
    std::string text = decoder.push_bytes(bytes);
    return text + decoder.finish();
}

void expect_valid(std::string_view text) {
    EXPECT_EQ(utf8_valid_prefix(text), text.size());
}

TEST(StreamDecoder, EverySplitGivesTheSameText) {
    const std::string bytes = "a\u00E9\u4F60\U0001F600 \xFF\xE4\xBDz\xF0\x9F\xED\xA0\x80\xC0\xAF\xE4\xBD";
    const std::string expected = decode_at_once(bytes);
    EXPECT_EQ(expected, "a\u00E9\u4F60\U0001F600 \uFFFD\uFFFDz\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
    for (std::size_t i = 0; i <= bytes.size(); ++i) {
        for (std::size_t j = i; j <= bytes.size(); ++j) {
            StreamDecoder decoder(small());
            std::string text;
            const std::string_view parts[] = {std::string_view(bytes).substr(0, i),
                                              std::string_view(bytes).substr(i, j - i),
                                              std::string_view(bytes).substr(j)};
            for (const std::string_view part : parts) {
                const std::string delta = decoder.push_bytes(part);
                expect_valid(delta);
                text += delta;
            }
            ASSERT_EQ(text + decoder.finish(), expected) << i << " " << j;
        }
    }
}

TEST(StreamDecoder, ByteTokensOfRandomBytes) {
    std::mt19937 rng(8);
    for (int i = 0; i < 300; ++i) {
        const std::string bytes = test::random_bytes(rng, 100);
        StreamDecoder decoder(small());
        std::string text;
        for (const char byte : bytes) {
            const std::string delta = decoder.push(static_cast<std::uint8_t>(byte));
            expect_valid(delta);
            text += delta;
        }
        text += decoder.finish();
        EXPECT_EQ(text, decode_at_once(bytes));
    }
}

TEST(StreamDecoder, HoldsTheStartOfACharacterBack) {
    StreamDecoder decoder(small());
    EXPECT_EQ(decoder.push(0xE4), "");
    EXPECT_EQ(decoder.push(0xBD), "");
    EXPECT_EQ(decoder.push(0xA0), "\u4F60");
    EXPECT_EQ(decoder.push(0xE4), "");
    EXPECT_EQ(decoder.push('x'), "\uFFFDx");
    EXPECT_EQ(decoder.finish(), "");
    EXPECT_EQ(decoder.push(0xE4), "");
    EXPECT_EQ(decoder.finish(), "\uFFFD");
    EXPECT_EQ(decoder.finish(), "");
    EXPECT_THROW(decoder.push(100000), TokenizerError);
}

}  // namespace
}  // namespace ds4::tokenizer
