#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// The printable alphabet in which byte-level BPE writes its vocabulary: one code point per byte
// (model.md 15.3).
namespace ds4::tokenizer {

// UTF-8 of the code point that stands for a byte.
std::string encode_byte(std::uint8_t byte);

// The bytes that `text` stands for; nullopt if a character is outside the alphabet.
std::optional<std::string> decode_bytes(std::string_view text);

}  // namespace ds4::tokenizer
