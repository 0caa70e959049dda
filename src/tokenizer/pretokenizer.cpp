#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pretokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <string>

#include "ds4/error.h"
#include "tokenizer/utf8.h"

namespace ds4::tokenizer {

const std::array<std::string_view, 3> split_patterns = {
    R"(\p{N}{1,3})",
    "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    "|[^\r\n"
    R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
    "\r\n]*|"
    R"(\s*[)"
    "\r\n"
    R"(]+|\s+(?!\S)|\s+)",
};

namespace {

// The tokenizer was trained with an engine whose \s is the property White_Space. PCRE2's \s adds U+180E
// (a format character since Unicode 6.3), so the set is spelled out.
constexpr std::string_view white_space =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

std::string spell_out_white_space(std::string_view pattern) {
    std::string result;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        if (pattern[i] != '\\') {
            result += pattern[i];
            continue;
        }
        const char escaped = pattern[++i];
        if (escaped == 's') {
            result.append("[").append(white_space).append("]");
        } else if (escaped == 'S') {
            result.append("[^").append(white_space).append("]");
        } else {
            result.append({'\\', escaped});
        }
    }
    return result;
}

[[noreturn]] void fail(const std::string& doing, int code) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(code, message.data(), message.size());
    throw TokenizerError("PCRE2 cannot " + doing + ": " + reinterpret_cast<const char*>(message.data()));
}

pcre2_code* compile(std::string_view pattern) {
    const std::string text = spell_out_white_space(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                     PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (code == nullptr) fail("compile a pattern of the pre-tokenizer", error);
    // A machine without JIT support matches with the interpreter: slower, same pieces.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return code;
}

struct FreeMatchData {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

struct FreeMatchContext {
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// One run of the passes over valid UTF-8, with the scratch that PCRE2 needs.
class Splitter {
  public:
    Splitter(const std::array<const pcre2_code*, 3>& passes, std::vector<std::string_view>& pieces)
        : passes_(passes), pieces_(pieces), context_(pcre2_match_context_create(nullptr)) {
        if (!context_) throw TokenizerError("PCRE2 is out of memory");
        // No pattern backtracks further than once over a run of white space, so the work is linear in the
        // text. The default limit (10 million steps) would still refuse a huge run of blanks.
        pcre2_set_match_limit(context_.get(), UINT32_MAX);
        for (std::size_t i = 0; i < passes.size(); ++i) {
            data_[i].reset(pcre2_match_data_create(1, nullptr));
            if (!data_[i]) throw TokenizerError("PCRE2 is out of memory");
        }
    }

    void split(std::string_view text) {
        each_part<0>(text, [this](std::string_view part, bool is_number) {
            // Numbers hold nothing that the later passes match.
            if (is_number) {
                pieces_.push_back(part);
            } else {
                split_cjk(part);
            }
        });
    }

  private:
    void split_cjk(std::string_view text) {
        // All ranges of pass 2 have leading bytes E3..E9; most text has none.
        const bool candidates = std::any_of(text.begin(), text.end(), [](char c) {
            const auto byte = static_cast<std::uint8_t>(c);
            return byte >= 0xE3 && byte <= 0xE9;
        });
        if (!candidates) return split_words(text);
        each_part<1>(text, [this](std::string_view part, bool) { split_words(part); });
    }

    void split_words(std::string_view text) {
        each_part<2>(text, [this](std::string_view part, bool) { pieces_.push_back(part); });
    }

    // Calls part(view, is_match) for every match of a pass and every gap between matches. The pass sees
    // nothing outside `text`: look-ahead ends where the piece of the pass before it ends.
    template <std::size_t pass, class Part>
    void each_part(std::string_view text, Part part) {
        const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
        std::size_t at = 0;
        while (at < text.size()) {
            const int result = pcre2_match(passes_[pass], subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                           data_[pass].get(), context_.get());
            if (result == PCRE2_ERROR_NOMATCH) break;
            if (result < 0) fail("split the text", result);
            const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_[pass].get());
            const std::size_t begin = range[0], end = range[1];
            if (begin > at) part(text.substr(at, begin - at), false);
            part(text.substr(begin, end - begin), true);
            at = end;
        }
        if (at < text.size()) part(text.substr(at), false);
    }

    const std::array<const pcre2_code*, 3>& passes_;
    std::vector<std::string_view>& pieces_;
    std::unique_ptr<pcre2_match_context, FreeMatchContext> context_;
    std::array<std::unique_ptr<pcre2_match_data, FreeMatchData>, 3> data_;
};

// Length of the run of bytes at the start of `text` that belong to no valid character.
std::size_t invalid_prefix(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        const Utf8Step step = utf8_step(text.substr(at));
        if (step.kind == Utf8::valid) break;
        at += static_cast<std::size_t>(step.length);
    }
    return at;
}

}  // namespace

void Pretokenizer::FreeCode::operator()(pcre2_real_code_8* code) const {
    pcre2_code_free(code);
}

Pretokenizer::Pretokenizer() {
    for (std::size_t i = 0; i < split_patterns.size(); ++i) passes_[i].reset(compile(split_patterns[i]));
}

std::vector<std::string_view> Pretokenizer::split(std::string_view text) const {
    std::vector<std::string_view> pieces;
    if (text.empty()) return pieces;
    const std::array<const pcre2_code*, 3> passes = {passes_[0].get(), passes_[1].get(), passes_[2].get()};
    Splitter splitter(passes, pieces);
    while (!text.empty()) {
        const std::size_t valid = utf8_valid_prefix(text);
        splitter.split(text.substr(0, valid));
        text.remove_prefix(valid);
        const std::size_t invalid = invalid_prefix(text);
        if (invalid > 0) pieces.push_back(text.substr(0, invalid));
        text.remove_prefix(invalid);
    }
    return pieces;
}

}  // namespace ds4::tokenizer
