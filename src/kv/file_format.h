#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ds4/error.h"

// The bytes of a checkpoint file, docs/KV_FORMAT.md: the envelope of antirez/ds4 around a payload of our own.
// Everything is little-endian. Nothing in a file is believed before its checksum is.
namespace ds4::kv {

// A file that cannot be used, and why. One line; the file's name is added by whoever has it.
class KvError : public Error {
  public:
    using Error::Error;
};

// The file is another program's, another model's or another version's: nothing is wrong with it.
class ForeignFile : public KvError {
  public:
    using KvError::KvError;
};

// When a checkpoint was taken, api.md 9.3.
enum class Reason : std::uint8_t { unknown, cold, continued, evict, shutdown };
const char* to_string(Reason reason);

// Whose text the key is, api.md 9.4.
enum class KeyKind : std::uint8_t {
    tokens,             // the bytes of the tokens
    responses_visible,  // what a Responses client sends back
    thinking_visible,   // what a client sends back that does not return reasoning
};

constexpr std::size_t kEnvelopeBytes = 52;  // with the length of the text
constexpr std::size_t kDigestBytes = 20;

// A SHA-1 as in a file; in memory its 40 hex digits. Empty string: none (zeros).
using Digest = std::array<std::uint8_t, kDigestBytes>;

struct Section {
    enum class Kind : std::uint32_t { tokens = 1, rows = 2, state = 3, logits = 4 };

    Kind kind = Kind::tokens;
    std::uint64_t offset = 0;  // in the file
    std::uint64_t bytes = 0;
    std::uint64_t checksum = 0;  // XXH3
};

// All of a file but the sections' bytes and the tool map.
struct FileHeader {
    // ---- envelope
    std::uint8_t quant_bits = 0;  // of the routed experts
    Reason reason = Reason::unknown;
    KeyKind key_kind = KeyKind::tokens;
    bool is_salted = false;  // the key's text held the string of a control token as plain text
    std::uint32_t n_tokens = 0;
    std::uint32_t n_context = 0;  // of the session
    std::uint64_t created = 0;    // unix seconds
    // Not covered by the checksum, because they change in place.
    std::uint32_t hits = 0;
    std::uint64_t last_used = 0;  // unix seconds
    std::string text;             // of the key, after what the parent's key has of it

    // ---- payload
    std::string fingerprint;  // of the model
    std::string tokens_sha1;  // of all token ids, as little-endian int32
    std::string parent;       // name of the file that has the beginning; empty: none
    std::string parent_tokens_sha1;
    std::uint32_t n_parent_tokens = 0;
    std::uint64_t key_bytes = 0;         // of the whole key
    std::uint64_t parent_key_bytes = 0;  // of them in the parent's key
    std::uint64_t tool_map_bytes = 0;    // at the end of the file
    std::uint64_t tool_map_checksum = 0;
    std::vector<Section> sections;  // one of each kind, in the order of the enum

    const Section& section(Section::Kind kind) const;
    std::uint64_t file_bytes() const;
};

// Lays the sections out behind the header, given their sizes in the enum's order, without checksums.
void lay_out(FileHeader& header, std::span<const std::uint64_t> section_bytes);

// Envelope, text and payload header: what stands before the first section.
std::string encode_header(const FileHeader& header);
std::size_t header_bytes(std::size_t text_bytes);

// The first bytes of a file, as much as header_bytes_wanted() asks for. file_bytes: its size. Throws KvError,
// ForeignFile.
FileHeader decode_header(std::span<const std::byte> bytes, std::uint64_t file_bytes);
// How much of a file decode_header needs, from its first kEnvelopeBytes. Throws KvError, ForeignFile.
std::size_t header_bytes_wanted(std::span<const std::byte> envelope, std::uint64_t file_bytes);

// Places of what changes in place.
constexpr std::size_t kHitsOffset = 12;
constexpr std::size_t kLastUsedOffset = 32;

// The file name without its suffix: SHA-1 of the key, after one byte 01 if it is salted.
std::string key_name(std::string_view key, bool is_salted);

std::string tokens_sha1(std::span<const std::int32_t> tokens);

// ---- tool map: ids of tool calls and the blocks that were sampled for them

struct ToolMapEntry {
    std::string id, block;
    bool operator==(const ToolMapEntry&) const = default;
};
std::string encode_tool_map(std::span<const ToolMapEntry> entries);
// Stops at the first inconsistency and returns what came before it.
std::vector<ToolMapEntry> decode_tool_map(std::string_view bytes);

}  // namespace ds4::kv
