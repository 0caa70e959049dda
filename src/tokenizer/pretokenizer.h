#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace ds4::tokenizer {

// The three Split patterns as the released tokenizer.json writes them (model.md 15.2).
extern const std::array<std::string_view, 3> split_patterns;

// Cuts text into the pieces inside which BPE merges. Pieces are views into the text, in order, and cover it.
//
// The patterns speak of characters, so text that is not UTF-8 is cut first: every maximal run of bytes that
// are not part of a valid character is one piece, and the valid stretches between are split on their own. The
// same bytes always give the same pieces, and none is lost.
class Pretokenizer {
  public:
    // Throws TokenizerError if the installed PCRE2 has no Unicode support.
    Pretokenizer();

    // Throws TokenizerError when PCRE2 runs out of memory.
    std::vector<std::string_view> split(std::string_view text) const;

  private:
    struct FreeCode {
        void operator()(pcre2_real_code_8* code) const;
    };
    using Code = std::unique_ptr<pcre2_real_code_8, FreeCode>;

    std::array<Code, 3> passes_;
};

}  // namespace ds4::tokenizer
