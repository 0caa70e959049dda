#include "tokenizer/byte_alphabet.h"

#include <array>

namespace ds4::tokenizer {
namespace {

constexpr int first_substitute = 0x100;
constexpr int substitutes = 68;

constexpr bool stands_for_itself(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
    std::array<int, 256> code_point{};
    std::array<int, first_substitute + substitutes> byte{};  // by code point; -1: not in the alphabet
};

constexpr Alphabet make_alphabet() {
    Alphabet alphabet;
    for (int& byte : alphabet.byte) byte = -1;
    int next_substitute = first_substitute;
    for (int byte = 0; byte < 256; ++byte) {
        const int code_point = stands_for_itself(byte) ? byte : next_substitute++;
        alphabet.code_point[static_cast<std::size_t>(byte)] = code_point;
        alphabet.byte[static_cast<std::size_t>(code_point)] = byte;
    }
    return alphabet;
}

constexpr Alphabet alphabet = make_alphabet();

}  // namespace

std::string encode_byte(std::uint8_t byte) {
    const int code_point = alphabet.code_point[byte];
    if (code_point < 0x80) return {static_cast<char>(code_point)};
    return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::optional<std::string> decode_bytes(std::string_view text) {
    // Every code point of the alphabet is below U+0144: one or two bytes of UTF-8.
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto code_point = static_cast<std::size_t>(static_cast<std::uint8_t>(text[i]));
        if (code_point >= 0x80) {
            if (code_point < 0xC2 || code_point > 0xC5 || i + 1 == text.size()) return std::nullopt;
            const auto next = static_cast<std::uint8_t>(text[++i]);
            if ((next & 0xC0) != 0x80) return std::nullopt;
            code_point = (code_point & 0x1F) << 6 | (next & 0x3F);
        }
        if (code_point >= alphabet.byte.size() || alphabet.byte[code_point] < 0) return std::nullopt;
        bytes += static_cast<char>(alphabet.byte[code_point]);
    }
    return bytes;
}

}  // namespace ds4::tokenizer
