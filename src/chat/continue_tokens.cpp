#include "chat/continue_tokens.h"

#include <algorithm>
#include <string_view>

namespace ds4::chat {
namespace {

using tokenizer::TokenId;
using tokenizer::Tokenizer;

// How live tokens meet a stretch of plain text.
struct PlainMatch {
    std::size_t n_tokens = 0, n_bytes = 0;  // that agree
    bool is_live_over = false;              // all live tokens agree
};

PlainMatch match_plain(std::string_view text, std::span<const TokenId> live, const Tokenizer& tokenizer) {
    PlainMatch match;
    while (match.n_bytes < text.size()) {
        if (match.n_tokens == live.size()) {
            match.is_live_over = true;
            return match;
        }
        const TokenId id = live[match.n_tokens];
        if (tokenizer.is_added(id)) return match;
        const std::string_view bytes = tokenizer.bytes(id);
        if (!text.substr(match.n_bytes).starts_with(bytes)) return match;
        match.n_bytes += bytes.size();
        ++match.n_tokens;
    }
    return match;
}

class Walk {
  public:
    Walk(std::span<const TokenId> live, const Tokenizer& tokenizer) : live_(live), tokenizer_(tokenizer) {}

    Continuation take(const Prompt& prompt) {
        for (const Segment& segment : prompt.segments) {
            if (!is_together_) {
                append({&segment, 1});
            } else if (segment.is_special) {
                take_special(segment);
            } else {
                take_plain(segment);
            }
        }
        return std::move(out_);
    }

  private:
    std::span<const TokenId> rest() const { return live_.subspan(out_.n_reused); }

    void append(std::span<const Segment> segments) {
        const auto ids = to_tokens(segments, tokenizer_);
        out_.tokens.insert(out_.tokens.end(), ids.begin(), ids.end());
    }

    void keep(std::size_t n) {
        const auto kept = rest().subspan(0, n);
        out_.tokens.insert(out_.tokens.end(), kept.begin(), kept.end());
        out_.n_reused += n;
    }

    void take_special(const Segment& segment) {
        const std::size_t before = out_.tokens.size();
        append({&segment, 1});
        if (!rest().empty() && rest().front() == out_.tokens[before]) {
            ++out_.n_reused;
        } else {
            is_together_ = false;
        }
    }

    void take_plain(const Segment& segment) {
        const PlainMatch match = match_plain(segment.text, rest(), tokenizer_);
        if (match.n_bytes == segment.text.size()) return keep(match.n_tokens);
        is_together_ = false;
        const auto fresh = to_tokens({&segment, 1}, tokenizer_);
        const auto n_same = static_cast<std::size_t>(
            std::mismatch(fresh.begin(), fresh.end(), rest().begin(), rest().end()).first - fresh.begin());
        if (match.is_live_over && n_same < match.n_tokens) {
            // Sampled text, which goes on: only what is new can be encoded.
            keep(match.n_tokens);
            tokenizer_.encode_to(std::string_view(segment.text).substr(match.n_bytes), out_.tokens);
        } else {
            out_.tokens.insert(out_.tokens.end(), fresh.begin(), fresh.end());
            out_.n_reused += n_same;
        }
    }

    std::span<const TokenId> live_;
    const Tokenizer& tokenizer_;
    Continuation out_;
    bool is_together_ = true;  // live tokens and prompt have not parted yet
};

}  // namespace

Continuation continue_tokens(const Prompt& prompt, std::span<const TokenId> live,
                             const Tokenizer& tokenizer) {
    return Walk(live, tokenizer).take(prompt);
}

}  // namespace ds4::chat
