#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/render.h"
#include "tokenizer/tokenizer.h"

// Prompts as bytes, by which stored states are found (api.md 9).
namespace ds4::chat {

struct PromptText {
    std::string text;
    // Where the first string of a control token ends that stands in plain text; npos: there is none. Two
    // prompts with the same bytes are the same if neither has one before.
    std::size_t forged_end = std::string::npos;
};

PromptText prompt_text(std::span<const Segment> segments, const tokenizer::Tokenizer& tokenizer);
PromptText prompt_text(std::span<const tokenizer::TokenId> tokens, const tokenizer::Tokenizer& tokenizer);

// Tokens of what follows the first n_bytes of a prompt's text; nullopt if that is inside a control token.
std::optional<std::vector<tokenizer::TokenId>> tokens_after(std::span<const Segment> segments,
                                                            std::size_t n_bytes,
                                                            const tokenizer::Tokenizer& tokenizer);

// Tokens before the last user's turn that comes before the first answer: everything that a new task of the
// same agent has in common with this one (api.md 9.3). 0: there is no such turn.
std::int64_t anchor_of(std::span<const tokenizer::TokenId> tokens, const tokenizer::Tokenizer& tokenizer);

// What a client sends back of a turn whose reasoning it does not return (api.md 9.4): the prompt, without its
// open <think> if that goes with the reasoning, and `answer` from its </think> on. nullopt if the reasoning
// has no end.
std::optional<PromptText> text_without_reasoning(const Prompt& prompt, bool drops_think,
                                                 std::span<const tokenizer::TokenId> answer,
                                                 const tokenizer::Tokenizer& tokenizer);

}  // namespace ds4::chat
