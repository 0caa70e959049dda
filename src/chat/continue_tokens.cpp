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
    Walk(const EncodedSegments& encoded, std::span<const TokenId> live, const Tokenizer& tokenizer)
        : encoded_(encoded), live_(live), tokenizer_(tokenizer) {}

    enum class Until { end, parting };
    Continuation take(const Prompt& prompt, Until until) {
        for (std::size_t i = 0; i < prompt.segments.size(); ++i) {
            const Segment& segment = prompt.segments[i];
            if (!is_together_) {
                if (until == Until::parting) break;
                append(encoded_[i]);
            } else if (segment.is_special) {
                take_special(encoded_[i]);
            } else {
                take_plain(segment, encoded_[i]);
            }
        }
        return std::move(out_);
    }

  private:
    std::span<const TokenId> rest() const { return live_.subspan(out_.n_reused); }

    void append(std::span<const TokenId> ids) {
        out_.tokens.insert(out_.tokens.end(), ids.begin(), ids.end());
    }

    void keep(std::size_t n) {
        append(rest().subspan(0, n));
        out_.n_reused += n;
    }

    void take_special(std::span<const TokenId> ids) {
        append(ids);
        if (!rest().empty() && rest().front() == ids.front()) {
            ++out_.n_reused;
        } else {
            is_together_ = false;
        }
    }

    void take_plain(const Segment& segment, std::span<const TokenId> fresh) {
        const PlainMatch match = match_plain(segment.text, rest(), tokenizer_);
        if (match.n_bytes == segment.text.size()) return keep(match.n_tokens);
        is_together_ = false;
        const auto n_same = static_cast<std::size_t>(
            std::mismatch(fresh.begin(), fresh.end(), rest().begin(), rest().end()).first - fresh.begin());
        if (match.is_live_over && n_same < match.n_tokens) {
            // Sampled text, which goes on: only what is new can be encoded.
            keep(match.n_tokens);
            tokenizer_.encode_to(std::string_view(segment.text).substr(match.n_bytes), out_.tokens);
        } else {
            append(fresh);
            out_.n_reused += n_same;
        }
    }

    const EncodedSegments& encoded_;
    std::span<const TokenId> live_;
    const Tokenizer& tokenizer_;
    Continuation out_;
    bool is_together_ = true;  // live tokens and prompt have not parted yet
};

}  // namespace

EncodedSegments encode_segments(const Prompt& prompt, const Tokenizer& tokenizer) {
    EncodedSegments encoded;
    for (const Segment& segment : prompt.segments) encoded.push_back(to_tokens({&segment, 1}, tokenizer));
    return encoded;
}

Continuation continue_tokens(const Prompt& prompt, const EncodedSegments& encoded,
                             std::span<const TokenId> live, const Tokenizer& tokenizer) {
    return Walk(encoded, live, tokenizer).take(prompt, Walk::Until::end);
}

std::size_t count_continued(const Prompt& prompt, const EncodedSegments& encoded,
                            std::span<const TokenId> live, const Tokenizer& tokenizer) {
    return Walk(encoded, live, tokenizer).take(prompt, Walk::Until::parting).n_reused;
}

Continuation continue_tokens(const Prompt& prompt, std::span<const TokenId> live,
                             const Tokenizer& tokenizer) {
    return continue_tokens(prompt, encode_segments(prompt, tokenizer), live, tokenizer);
}

}  // namespace ds4::chat
