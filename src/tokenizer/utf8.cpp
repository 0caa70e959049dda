#include "tokenizer/utf8.h"

namespace ds4::tokenizer {
namespace {

// What a leading byte asks of its sequence: its length and the range of the second byte, which alone excludes
// overlong forms, surrogates and code points above U+10FFFF.
struct Lead {
    int length;
    std::uint8_t second_min, second_max;
};

Lead classify(std::uint8_t byte) {
    if (byte < 0x80) return {1, 0, 0};
    if (byte < 0xC2 || byte > 0xF4) return {0, 0, 0};
    if (byte < 0xE0) return {2, 0x80, 0xBF};
    if (byte < 0xF0) {
        return {3, std::uint8_t(byte == 0xE0 ? 0xA0 : 0x80), std::uint8_t(byte == 0xED ? 0x9F : 0xBF)};
    }
    return {4, std::uint8_t(byte == 0xF0 ? 0x90 : 0x80), std::uint8_t(byte == 0xF4 ? 0x8F : 0xBF)};
}

constexpr std::string_view replacement = "\uFFFD";

}  // namespace

Utf8Step utf8_step(std::string_view text) {
    const Lead lead = classify(static_cast<std::uint8_t>(text[0]));
    if (lead.length == 0) return {Utf8::invalid, 1};
    for (int i = 1; i < lead.length; ++i) {
        if (static_cast<std::size_t>(i) == text.size()) return {Utf8::truncated, i};
        const auto byte = static_cast<std::uint8_t>(text[static_cast<std::size_t>(i)]);
        const std::uint8_t low = i == 1 ? lead.second_min : 0x80;
        const std::uint8_t high = i == 1 ? lead.second_max : 0xBF;
        if (byte < low || byte > high) return {Utf8::invalid, i};
    }
    return {Utf8::valid, lead.length};
}

std::size_t utf8_valid_prefix(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        if (static_cast<std::uint8_t>(text[at]) < 0x80) {
            ++at;
            continue;
        }
        const Utf8Step step = utf8_step(text.substr(at));
        if (step.kind != Utf8::valid) break;
        at += static_cast<std::size_t>(step.length);
    }
    return at;
}

std::string Utf8Stream::push(std::string_view bytes) {
    held_.append(bytes);
    std::string text;
    std::string_view rest = held_;
    while (!rest.empty()) {
        const std::size_t valid = utf8_valid_prefix(rest);
        text.append(rest.substr(0, valid));
        rest.remove_prefix(valid);
        if (rest.empty()) break;
        const Utf8Step step = utf8_step(rest);
        if (step.kind == Utf8::truncated) break;
        text.append(replacement);
        rest.remove_prefix(static_cast<std::size_t>(step.length));
    }
    held_.erase(0, held_.size() - rest.size());
    return text;
}

std::string Utf8Stream::finish() {
    // What is held is the start of one character, hence one maximal subpart.
    std::string text(held_.empty() ? std::string_view() : replacement);
    held_.clear();
    return text;
}

}  // namespace ds4::tokenizer
