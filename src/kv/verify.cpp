#include "kv/verify.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace ds4::kv {
namespace {

// Of a section at a time, so that a file of gigabytes needs no memory of that size.
constexpr std::size_t kPiece = std::size_t{64} << 20;

void check_section(const PosixFile& file, const Section& section) {
    Xxh3 checksum;
    std::vector<std::byte> piece;
    for (std::uint64_t done = 0; done < section.bytes; done += piece.size()) {
        piece.resize(std::min<std::uint64_t>(kPiece, section.bytes - done));
        file.read_at(section.offset + done, piece);
        checksum.update(piece);
    }
    if (checksum.value() != section.checksum) {
        throw KvError("the checksum of section " + std::to_string(static_cast<int>(section.kind)) +
                      " is wrong");
    }
}

FileHeader read_whole(const Directory& directory, const std::string& name, Chain& chain) {
    const auto file = PosixFile::open_existing(directory.path_of(name), O_RDONLY);
    if (!file) throw KvError("has vanished");
    const std::uint64_t file_bytes = file->size();
    std::vector<std::byte> bytes(std::min<std::uint64_t>(file_bytes, kEnvelopeBytes));
    file->read_at(0, bytes);
    bytes.resize(header_bytes_wanted(bytes, file_bytes));
    file->read_at(0, bytes);
    FileHeader h = decode_header(bytes, file_bytes);
    for (const Section& section : h.sections) check_section(*file, section);
    if (h.tool_map_bytes > 0) {
        std::vector<std::byte> map(h.tool_map_bytes);
        file->read_at(file_bytes - h.tool_map_bytes, map);
        if (xxh3(map) != h.tool_map_checksum) throw KvError("the checksum of its tool map is wrong");
    }
    const Section& tokens = h.section(Section::Kind::tokens);
    const std::size_t before = chain.tokens.size();
    chain.tokens.resize(before + tokens.bytes / sizeof(std::int32_t));
    file->read_at(tokens.offset, std::as_writable_bytes(std::span(chain.tokens).subspan(before)));
    chain.file_bytes += file_bytes;
    return h;
}

}  // namespace

Chain verify_chain(const Directory& directory, const std::string& name) {
    Chain chain;
    std::uint32_t least = ~0U;
    for (std::string at = name; !at.empty();) {
        const auto entry = directory.entries().find(at);
        if (entry == directory.entries().end()) throw KvError("its beginning " + at + " is missing");
        if (entry->second.header.n_tokens >= least) throw KvError("its beginning is longer than itself");
        least = entry->second.header.n_tokens;
        chain.names.insert(chain.names.begin(), at);
        at = entry->second.header.parent;
    }
    std::string parent_sha1;
    for (const std::string& at : chain.names) {
        const std::size_t n_parent = chain.tokens.size();
        const FileHeader h = read_whole(directory, at, chain);
        if (h.n_parent_tokens != n_parent || h.parent_tokens_sha1 != parent_sha1) {
            throw KvError(at + " does not go on where its beginning ends");
        }
        if (tokens_sha1(chain.tokens) != h.tokens_sha1)
            throw KvError(at + " is of other tokens than it says");
        if (h.parent_key_bytes > chain.key.size())
            throw KvError(at + " has more of its parent's key than there is");
        chain.key = chain.key.substr(0, h.parent_key_bytes) + h.text;
        if (key_name(chain.key, h.is_salted) != at) throw KvError(at + " is not the SHA-1 of its key");
        parent_sha1 = h.tokens_sha1;
    }
    return chain;
}

}  // namespace ds4::kv
