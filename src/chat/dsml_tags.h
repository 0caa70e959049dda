#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

// Recognises the tags of a call block in text that is still growing (prompt.md 5.2).
namespace ds4::chat {

enum class Match : std::uint8_t {
    no,
    partial,  // the text ended before it was decided
    full,
};

// Does `text` start with `literal`?
Match match_literal(std::string_view text, std::string_view literal);

constexpr bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
std::size_t count_leading_space(std::string_view text);

// Models drift from the proper tags in long contexts. The start marker fixes the spelling of its whole block.
struct TagSpelling {
    std::string_view infix;  // between "<" or "</" and the tag's name

    std::string open(std::string_view name) const { return "<" + std::string(infix).append(name); }
    std::string close(std::string_view name) const { return "</" + std::string(infix).append(name) + ">"; }
};

struct StartMarker {
    Match match = Match::no;
    TagSpelling spelling;
    std::size_t length = 0;  // bytes
};

// Is there a start marker of a call block at the start of `text`, in any spelling? The bare one counts only
// with an invoke tag behind it, because people write about XML.
StartMarker match_start_marker(std::string_view text);

struct OpenTag {
    Match match = Match::no;
    std::map<std::string, std::string> attributes;
    std::size_t length = 0;  // bytes

    const std::string* find(const std::string& attribute) const;  // nullptr if absent
};

// `prefix` (TagSpelling::open) with attributes in double quotes, up to ">".
OpenTag match_open_tag(std::string_view text, std::string_view prefix);

}  // namespace ds4::chat
