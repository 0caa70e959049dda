#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ds4::tokenizer {

// The literal strings of added tokens, for look-up and for finding them in rendered prompts.
class AddedTokens {
  public:
    struct Match {
        std::size_t begin;
        std::size_t length;  // bytes
        std::int32_t id;
    };

    AddedTokens() = default;
    // Throws TokenizerError: an empty string or the same string twice.
    explicit AddedTokens(std::vector<std::pair<std::string, std::int32_t>> tokens);

    std::optional<std::int32_t> find(std::string_view text) const;

    // The leftmost added token in `text` at or after `from`; the longest of those that start there.
    std::optional<Match> search(std::string_view text, std::size_t from) const;

  private:
    std::optional<Match> longest_at(std::string_view text, std::size_t begin) const;

    std::vector<std::pair<std::string, std::int32_t>> tokens_;  // sorted by string
    std::bitset<256> first_bytes_;
};

}  // namespace ds4::tokenizer
