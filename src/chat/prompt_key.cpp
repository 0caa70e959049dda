#include "chat/prompt_key.h"

#include <algorithm>

#include "chat/protocol.h"

namespace ds4::chat {
namespace {

using tokenizer::TokenId;
using tokenizer::Tokenizer;

// Collects a text whose control tokens and plain stretches are known apart.
class TextBuilder {
  public:
    explicit TextBuilder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

    void special(std::string_view text) {
        end_plain();
        out_.text += text;
        plain_begin_ = out_.text.size();
    }
    void plain(std::string_view text) { out_.text += text; }
    PromptText take() {
        end_plain();
        return std::move(out_);
    }

  private:
    void end_plain() {
        if (out_.forged_end != std::string::npos) return;
        const auto end = tokenizer_.find_added_end(std::string_view(out_.text).substr(plain_begin_));
        if (end) out_.forged_end = plain_begin_ + *end;
    }

    const Tokenizer& tokenizer_;
    PromptText out_;
    std::size_t plain_begin_ = 0;
};

void add_tokens(TextBuilder& builder, std::span<const TokenId> tokens, const Tokenizer& tokenizer) {
    for (const TokenId id : tokens) {
        if (tokenizer.is_added(id)) {
            builder.special(tokenizer.bytes(id));
        } else {
            builder.plain(tokenizer.bytes(id));
        }
    }
}

void add_segments(TextBuilder& builder, std::span<const Segment> segments) {
    for (const Segment& segment : segments) {
        if (segment.is_special) {
            builder.special(segment.text);
        } else {
            builder.plain(segment.text);
        }
    }
}

}  // namespace

PromptText prompt_text(std::span<const Segment> segments, const Tokenizer& tokenizer) {
    TextBuilder builder(tokenizer);
    add_segments(builder, segments);
    return builder.take();
}

PromptText prompt_text(std::span<const TokenId> tokens, const Tokenizer& tokenizer) {
    TextBuilder builder(tokenizer);
    add_tokens(builder, tokens, tokenizer);
    return builder.take();
}

std::optional<std::vector<TokenId>> tokens_after(std::span<const Segment> segments, std::size_t n_bytes,
                                                 const Tokenizer& tokenizer) {
    std::vector<TokenId> tokens;
    for (const Segment& segment : segments) {
        if (n_bytes >= segment.text.size()) {
            n_bytes -= segment.text.size();
            continue;
        }
        if (n_bytes > 0 && segment.is_special) return std::nullopt;
        const Segment rest{segment.is_special, segment.text.substr(n_bytes)};
        const auto more = to_tokens({&rest, 1}, tokenizer);
        tokens.insert(tokens.end(), more.begin(), more.end());
        n_bytes = 0;
    }
    return tokens;
}

std::int64_t anchor_of(std::span<const TokenId> tokens, const Tokenizer& tokenizer) {
    const auto user = tokenizer.find_added(protocol::user);
    const auto assistant = tokenizer.find_added(protocol::assistant);
    if (!user || !assistant) return 0;
    const auto answer = std::find(tokens.begin(), tokens.end(), *assistant);
    const auto last = std::find(std::make_reverse_iterator(answer), tokens.rend(), *user);
    return last == tokens.rend() ? 0 : tokens.rend() - last - 1;
}

std::optional<PromptText> text_without_reasoning(const Prompt& prompt, bool drops_think,
                                                 std::span<const TokenId> answer,
                                                 const Tokenizer& tokenizer) {
    const auto end = std::find(answer.begin(), answer.end(), tokenizer.find_added(protocol::end_think));
    if (end == answer.end() || prompt.start != Prompt::Start::reasoning) return std::nullopt;
    TextBuilder builder(tokenizer);
    add_segments(builder, std::span(prompt.segments).first(prompt.segments.size() - (drops_think ? 1 : 0)));
    add_tokens(builder, {end, answer.end()}, tokenizer);
    return builder.take();
}

}  // namespace ds4::chat
