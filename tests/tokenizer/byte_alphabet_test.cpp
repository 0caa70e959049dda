#include "tokenizer/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

namespace ds4::tokenizer {
namespace {

TEST(ByteAlphabet, KnownBytes) {
    EXPECT_EQ(encode_byte('a'), "a");
    EXPECT_EQ(encode_byte(' '), "\u0120");
    EXPECT_EQ(encode_byte('\n'), "\u010A");
    EXPECT_EQ(encode_byte(0), "\u0100");
    EXPECT_EQ(encode_byte(173), "\u0143");
    EXPECT_EQ(encode_byte(255), "\u00FF");
}

TEST(ByteAlphabet, EveryByteHasItsOwnCharacterAndComesBack) {
    std::set<std::string> seen;
    for (int byte = 0; byte < 256; ++byte) {
        const std::string text = encode_byte(static_cast<std::uint8_t>(byte));
        EXPECT_TRUE(seen.insert(text).second) << byte;
        EXPECT_EQ(decode_bytes(text), std::string(1, static_cast<char>(byte))) << byte;
    }
}

TEST(ByteAlphabet, RefusesWhatIsOutside) {
    for (const char* text :
         {" ", "a b", "\n", "\u00AD", "\u0144", "\u4F60", "\xC4", "\xC4x", "\xFF", "\x80"}) {
        EXPECT_EQ(decode_bytes(text), std::nullopt) << text;
    }
    EXPECT_EQ(decode_bytes(""), "");
}

}  // namespace
}  // namespace ds4::tokenizer
