#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "ds4/error.h"

namespace ds4::tokenizer {

AddedTokens::AddedTokens(std::vector<std::pair<std::string, std::int32_t>> tokens)
    : tokens_(std::move(tokens)) {
    std::sort(tokens_.begin(), tokens_.end());
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        const auto& [text, id] = tokens_[i];
        if (text.empty()) throw TokenizerError("added token " + std::to_string(id) + " is an empty string");
        if (i > 0 && tokens_[i - 1].first == text) {
            throw TokenizerError("added tokens " + std::to_string(tokens_[i - 1].second) + " and " +
                                 std::to_string(id) + " are the same string '" + text + "'");
        }
        first_bytes_.set(static_cast<std::uint8_t>(text[0]));
    }
}

std::optional<std::int32_t> AddedTokens::find(std::string_view text) const {
    const auto found =
        std::lower_bound(tokens_.begin(), tokens_.end(), text,
                         [](const auto& token, std::string_view t) { return token.first < t; });
    if (found == tokens_.end() || found->first != text) return std::nullopt;
    return found->second;
}

std::optional<AddedTokens::Match> AddedTokens::search(std::string_view text, std::size_t from) const {
    for (std::size_t begin = from; begin < text.size(); ++begin) {
        if (!first_bytes_.test(static_cast<std::uint8_t>(text[begin]))) continue;
        if (const auto match = longest_at(text, begin)) return match;
    }
    return std::nullopt;
}

std::optional<AddedTokens::Match> AddedTokens::longest_at(std::string_view text, std::size_t begin) const {
    // Narrows the range of tokens that agree with the text byte by byte. In a sorted range the token that is
    // complete at a depth, if any, comes first.
    std::optional<Match> longest;
    auto low = tokens_.begin();
    auto high = tokens_.end();
    for (std::size_t depth = 0;; ++depth) {
        if (low->first.size() == depth) {
            longest = Match{begin, depth, low->second};
            ++low;
        }
        if (low == high || begin + depth == text.size()) return longest;
        const auto byte = static_cast<std::uint8_t>(text[begin + depth]);
        const auto byte_at = [depth](const auto& token) {
            return static_cast<std::uint8_t>(token.first[depth]);
        };
        low = std::partition_point(low, high, [&](const auto& token) { return byte_at(token) < byte; });
        high = std::partition_point(low, high, [&](const auto& token) { return byte_at(token) == byte; });
        if (low == high) return longest;
    }
}

}  // namespace ds4::tokenizer
