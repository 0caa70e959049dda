#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/utf8.h"

namespace ds4::gguf {
class File;
}

// Byte-level BPE of DeepSeek V4 (model.md 15). Thread-safe: every method is const and keeps its scratch
// local.
namespace ds4::tokenizer {

using TokenId = std::int32_t;

// What a tokenizer is made of, wherever it was stored.
struct Vocabulary {
    // Numbers of tokenizer.ggml.token_type. control and user_defined are the added tokens; an unused entry
    // only fills an id: no text gives it.
    enum class Kind : std::uint8_t { normal = 1, control = 3, user_defined = 4, unused = 5 };
    std::vector<std::string>
        tokens;               // (vocab) normal: byte-encoded alphabet of model.md 15.3; others: literal UTF-8
    std::vector<Kind> kinds;  // (vocab)
    std::vector<std::string> merges;       // "left right", index = rank
    TokenId bos = -1, eos = -1, pad = -1;  // -1: none

    // model.md 15.1. Throws GgufError, TokenizerError naming the key.
    static Vocabulary from_gguf(const gguf::File& file);
    // Hugging Face tokenizer.json, which must declare the pre-tokenizer implemented here. Throws IoError,
    // TokenizerError naming the field.
    static Vocabulary from_json(const std::filesystem::path& path);
};

class Tokenizer {
  public:
    // Throws TokenizerError: an empty vocabulary, lists of different lengths, a merge of unknown tokens, a
    // byte without a token, duplicates, a bos, eos or pad outside the vocabulary.
    explicit Tokenizer(Vocabulary vocabulary);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    std::int32_t size() const;
    const Vocabulary& vocabulary() const;

    // Ids of plain text: strings of added tokens in it are ordinary text. Never adds BOS. Takes any bytes and
    // loses none: decode(encode(text)) == text (see Pretokenizer for what is not UTF-8). Throws
    // TokenizerError for 2 GiB or more.
    std::vector<TokenId> encode(std::string_view text) const;
    // The same, appended.
    void encode_to(std::string_view text, std::vector<TokenId>& ids) const;
    // Ids of text in which the strings of added tokens stand for those tokens (rendered prompts, tests): the
    // leftmost one, and the longest of those that start there, cuts the text; each span between is encoded
    // alone.
    std::vector<TokenId> encode_with_added(std::string_view text) const;

    // Id of a token by its literal text (added token) or nullopt.
    std::optional<TokenId> find_added(std::string_view text) const;
    // Where the first string of an added token in a text ends.
    std::optional<std::size_t> find_added_end(std::string_view text) const;
    bool is_added(TokenId id) const;  // false if id is out of range

    // The bytes of one token (may be half a UTF-8 sequence). Throws TokenizerError if id is out of range.
    std::string_view bytes(TokenId id) const;
    // All of them, one after the other. Throws TokenizerError if an id is out of range.
    std::string decode(std::span<const TokenId> ids) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Turns a stream of tokens into text without ever giving out half a UTF-8 sequence. Bytes that can never
// become valid come out as U+FFFD, one per maximal subpart as everywhere on the web. The tokenizer must
// outlive it.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
    // Text that is complete after this token; empty while a sequence is open. Throws TokenizerError if id is
    // out of range.
    std::string push(TokenId id) { return text_.push(tokenizer_->bytes(id)); }
    std::string push_bytes(std::string_view bytes) { return text_.push(bytes); }
    // What is held back, as U+FFFD; the decoder is empty afterwards.
    std::string finish() { return text_.finish(); }

  private:
    const Tokenizer* tokenizer_;
    Utf8Stream text_;
};

}  // namespace ds4::tokenizer
