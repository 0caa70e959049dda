#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ds4::tokenizer {

enum class Utf8 : std::uint8_t {
    valid,      // one whole character
    truncated,  // the text ends inside a character that more bytes could complete
    invalid,    // bytes that no continuation can make a character
};

struct Utf8Step {
    Utf8 kind;
    int length;  // bytes, 1..4; of an invalid step: the maximal subpart, which becomes one U+FFFD
};

// What stands at the start of `text` (not empty). Well-formedness and maximal subparts as the Unicode
// standard, section 3.9, tables 3-7 and 3-8.
Utf8Step utf8_step(std::string_view text);

// Length of the longest prefix of `text` that is whole valid characters.
std::size_t utf8_valid_prefix(std::string_view text);

// Turns bytes that arrive in any portions into valid UTF-8 without ever giving out half a character. Every
// maximal subpart that cannot become valid comes out as U+FFFD.
class Utf8Stream {
  public:
    // Text that is complete with these bytes.
    std::string push(std::string_view bytes);
    // What is held back, as U+FFFD; nothing is held afterwards.
    std::string finish();
    // Something is held back.
    bool is_open() const { return !held_.empty(); }

  private:
    std::string held_;  // at most 3 bytes: the start of a character
};

}  // namespace ds4::tokenizer
