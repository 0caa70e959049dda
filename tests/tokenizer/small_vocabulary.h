#pragma once

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace ds4::test {

// Ids 0..255 are the bytes; then "he", "ll", "hell"; then <s> (control) and <t> (user-defined).
inline tokenizer::Vocabulary small_vocabulary() {
    using Kind = tokenizer::Vocabulary::Kind;
    tokenizer::Vocabulary vocabulary;
    for (int byte = 0; byte < 256; ++byte) {
        vocabulary.tokens.push_back(tokenizer::encode_byte(static_cast<std::uint8_t>(byte)));
    }
    for (const char* token : {"he", "ll", "hell"}) vocabulary.tokens.emplace_back(token);
    vocabulary.kinds.assign(vocabulary.tokens.size(), Kind::normal);
    vocabulary.merges = {"h e", "l l", "he ll"};
    vocabulary.tokens.emplace_back("<s>");
    vocabulary.kinds.push_back(Kind::control);
    vocabulary.tokens.emplace_back("<t>");
    vocabulary.kinds.push_back(Kind::user_defined);
    vocabulary.bos = vocabulary.eos = 259;
    return vocabulary;
}

}  // namespace ds4::test
