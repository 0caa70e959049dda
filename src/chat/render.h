#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chat/messages.h"
#include "tokenizer/tokenizer.h"

// Conversation to prompt (prompt.md 1, 2).
namespace ds4::chat {

class ToolMemory;
struct ReplayCounts;

// A stretch of a prompt. Only the renderer makes special segments, so a client whose text holds the string of
// a control token gets plain text.
struct Segment {
    bool is_special = false;
    std::string text;  // special: the string of one added token

    bool operator==(const Segment&) const = default;
};

struct Prompt {
    // What the model writes first when it continues the prompt. ended: the conversation ends in a finished
    // turn, so there is nothing to answer.
    enum class Start : std::uint8_t { reasoning, content, ended };

    std::vector<Segment> segments;  // no two plain ones in a row
    Start start = Start::ended;
};

// Throws PromptError (see preprocess).
Prompt render(const Conversation& conversation);
// The same, but calls that `memory` (nullptr: none) knows are written as they were sampled. Adds to `counts`.
Prompt render(const Conversation& conversation, const ToolMemory* memory, ReplayCounts& counts);

// BOS and the text, for completions without a chat (prompt.md 2.10).
Prompt render_raw(std::string_view text);

// The vendor asks for a window of 384 Ki tokens at the highest effort; below it thinks as hard as usual.
Effort limit_effort(Effort effort, std::int64_t n_context);

std::string to_text(const Prompt& prompt);

// Every plain segment is encoded on its own. Throws TokenizerError if the vocabulary lacks a control token.
std::vector<tokenizer::TokenId> to_tokens(std::span<const Segment> segments,
                                          const tokenizer::Tokenizer& tokenizer);
inline std::vector<tokenizer::TokenId> to_tokens(const Prompt& prompt,
                                                 const tokenizer::Tokenizer& tokenizer) {
    return to_tokens(prompt.segments, tokenizer);
}

}  // namespace ds4::chat
