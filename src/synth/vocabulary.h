#pragma once

#include <cstdint>

#include "tokenizer/tokenizer.h"

namespace ds4::synth {

// The added tokens of V4 fill the last ids of a vocabulary (model.md 15.4).
inline constexpr std::uint32_t kAddedTokens = 1280;
// BOS, EOS, pad and the bytes stand before them.
inline constexpr std::uint32_t kLeastVocabulary = 3 + 256 + kAddedTokens;

// A made-up vocabulary of `size` tokens (at least kLeastVocabulary) with every added token of V4 under its
// name; for Flash's 129,280 at its own id. Merges build short strings of letters that have nothing to do with
// any language. The same size gives the same vocabulary.
tokenizer::Vocabulary made_up_vocabulary(std::uint32_t size);

}  // namespace ds4::synth
