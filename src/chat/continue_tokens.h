#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "chat/render.h"
#include "tokenizer/tokenizer.h"

namespace ds4::chat {

struct Continuation {
    std::vector<tokenizer::TokenId> tokens;
    std::size_t n_reused = 0;  // the first so many are those that were live
};

// The tokens of a prompt, keeping those that a session already holds wherever they spell the same thing:
// sampled text is seldom cut into tokens as the tokenizer would cut it. A control token matches only itself,
// never a text that spells it. Where live tokens and prompt part inside a stretch of plain text, that stretch
// is encoded anew from its start, because tokens must not depend on where an old session happened to end.
// Throws TokenizerError (see to_tokens).
Continuation continue_tokens(const Prompt& prompt, std::span<const tokenizer::TokenId> live,
                             const tokenizer::Tokenizer& tokenizer);

// The same for a prompt that is compared with many sessions: each segment encoded once.
using EncodedSegments = std::vector<std::vector<tokenizer::TokenId>>;
EncodedSegments encode_segments(const Prompt& prompt, const tokenizer::Tokenizer& tokenizer);
Continuation continue_tokens(const Prompt& prompt, const EncodedSegments& encoded,
                             std::span<const tokenizer::TokenId> live, const tokenizer::Tokenizer& tokenizer);
// Only the number of live tokens that it would keep.
std::size_t count_continued(const Prompt& prompt, const EncodedSegments& encoded,
                            std::span<const tokenizer::TokenId> live, const tokenizer::Tokenizer& tokenizer);

}  // namespace ds4::chat
