#include "kv/file_format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/hash.h"

namespace ds4::kv {
namespace {

static_assert(std::endian::native == std::endian::little,
              "files are little-endian, as every machine we know");

constexpr std::string_view kMagic = "KVC";
constexpr std::uint8_t kVersion = 1;
constexpr std::string_view kPayloadMagic = "DS4P";
constexpr std::uint32_t kPayloadVersion = 1;
constexpr std::string_view kFirstDesignMagic = "DSV4";
constexpr std::uint8_t kHasToolMap = 1, kResponsesVisible = 2, kThinkingVisible = 4, kSalted = 8;

constexpr std::size_t kSections = 4;
constexpr std::size_t kSectionBytes = 32;
constexpr std::size_t kPayloadFixed = 8 + 4 * kDigestBytes + 8 + 4 * 8 + 8;
constexpr std::size_t kPayloadHeader = kPayloadFixed + kSections * kSectionBytes + 8;

// ---- bytes out

class Writer {
  public:
    template <class T>
    void put(T value) {
        char bytes[sizeof value];
        std::memcpy(bytes, &value, sizeof value);
        out_.append(bytes, sizeof value);
    }
    void put_text(std::string_view text) { out_ += text; }
    void put_digest(const std::string& hex);
    std::string& out() { return out_; }

  private:
    std::string out_;
};

int nibble(char c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

void Writer::put_digest(const std::string& hex) {
    for (std::size_t i = 0; i < kDigestBytes; ++i) {
        const int value = hex.empty() ? 0 : nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]);
        put(static_cast<std::uint8_t>(value));
    }
}

// ---- bytes in

// The caller has made sure that there is enough.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <class T>
    T get() {
        T value;
        std::memcpy(&value, bytes_.data() + at_, sizeof value);
        at_ += sizeof value;
        return value;
    }
    std::string get_text(std::size_t n) {
        std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, n);
        at_ += n;
        return text;
    }
    std::string get_digest();
    std::size_t at() const { return at_; }

  private:
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
};

std::string Reader::get_digest() {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string hex;
    bool is_none = true;
    for (std::size_t i = 0; i < kDigestBytes; ++i) {
        const auto value = get<std::uint8_t>();
        is_none = is_none && value == 0;
        hex += kDigits[value >> 4];
        hex += kDigits[value & 15];
    }
    return is_none ? std::string() : hex;
}

std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// ---- envelope

std::uint8_t flags_of(const FileHeader& h) {
    unsigned flags = 0;
    if (h.tool_map_bytes > 0) flags |= kHasToolMap;
    if (h.key_kind == KeyKind::responses_visible) flags |= kResponsesVisible;
    if (h.key_kind == KeyKind::thinking_visible) flags |= kThinkingVisible;
    if (h.is_salted) flags |= kSalted;
    return static_cast<std::uint8_t>(flags);
}

std::uint64_t payload_bytes(const FileHeader& h) {
    std::uint64_t bytes = kPayloadHeader;
    for (const Section& section : h.sections) bytes += section.bytes;
    return bytes;
}

void put_envelope(Writer& out, const FileHeader& h) {
    out.put_text(kMagic);
    out.put(kVersion);
    out.put(h.quant_bits);
    out.put(static_cast<std::uint8_t>(h.reason));
    out.put(flags_of(h));
    out.put(std::uint8_t{0});
    out.put(h.n_tokens);
    out.put(h.hits);
    out.put(h.n_context);
    out.put(std::uint32_t{0});
    out.put(h.created);
    out.put(h.last_used);
    out.put(payload_bytes(h));
    out.put(static_cast<std::uint32_t>(h.text.size()));
}

// Of everything before the checksum's own place, hits and last use as zeros.
std::uint64_t header_checksum(std::string bytes) {
    std::fill_n(bytes.begin() + kHitsOffset, 4, '\0');
    std::fill_n(bytes.begin() + kLastUsedOffset, 8, '\0');
    return xxh3(std::as_bytes(std::span(bytes)));
}

void read_envelope(Reader& in, FileHeader& h, std::uint64_t& payload) {
    in.get_text(kMagic.size() + sizeof kVersion);
    h.quant_bits = in.get<std::uint8_t>();
    const auto reason = in.get<std::uint8_t>();
    h.reason =
        reason <= static_cast<std::uint8_t>(Reason::shutdown) ? static_cast<Reason>(reason) : Reason::unknown;
    const auto flags = in.get<std::uint8_t>();
    h.key_kind = (flags & kResponsesVisible) != 0  ? KeyKind::responses_visible
                 : (flags & kThinkingVisible) != 0 ? KeyKind::thinking_visible
                                                   : KeyKind::tokens;
    h.is_salted = (flags & kSalted) != 0;
    in.get<std::uint8_t>();
    h.n_tokens = in.get<std::uint32_t>();
    h.hits = in.get<std::uint32_t>();
    h.n_context = in.get<std::uint32_t>();
    in.get<std::uint32_t>();
    h.created = in.get<std::uint64_t>();
    h.last_used = in.get<std::uint64_t>();
    payload = in.get<std::uint64_t>();
    h.text = in.get_text(in.get<std::uint32_t>());
}

void read_payload_header(Reader& in, FileHeader& h) {
    in.get_text(kPayloadMagic.size() + sizeof kPayloadVersion);
    h.fingerprint = in.get_digest();
    h.tokens_sha1 = in.get_digest();
    h.parent = in.get_digest();
    h.parent_tokens_sha1 = in.get_digest();
    h.n_parent_tokens = in.get<std::uint32_t>();
    in.get<std::uint32_t>();
    h.key_bytes = in.get<std::uint64_t>();
    h.parent_key_bytes = in.get<std::uint64_t>();
    h.tool_map_bytes = in.get<std::uint64_t>();
    h.tool_map_checksum = in.get<std::uint64_t>();
    const auto n_sections = in.get<std::uint64_t>();
    if (n_sections != kSections) throw KvError("has " + std::to_string(n_sections) + " sections, expected 4");
    for (std::size_t i = 0; i < kSections; ++i) {
        Section section;
        section.kind = in.get<Section::Kind>();
        in.get<std::uint32_t>();
        section.offset = in.get<std::uint64_t>();
        section.bytes = in.get<std::uint64_t>();
        section.checksum = in.get<std::uint64_t>();
        h.sections.push_back(section);
    }
}

// What the checksum cannot say: that the numbers fit each other and the file.
void check_header(const FileHeader& h, std::uint64_t payload, std::uint64_t file_bytes) {
    std::uint64_t at = header_bytes(h.text.size());
    for (std::size_t i = 0; i < kSections; ++i) {
        const Section& section = h.sections[i];
        if (static_cast<std::size_t>(section.kind) != i + 1 || section.offset != at ||
            section.bytes > file_bytes - at) {
            throw KvError("section " + std::to_string(i + 1) + " does not lie where it should");
        }
        at += section.bytes;
    }
    if (payload != payload_bytes(h) || h.tool_map_bytes > file_bytes - at ||
        at + h.tool_map_bytes != file_bytes) {
        throw KvError("is " + std::to_string(file_bytes) + " bytes, its header says otherwise");
    }
    const bool has_parent = !h.parent.empty();
    if (h.n_tokens == 0 || has_parent != (h.n_parent_tokens > 0) || h.n_parent_tokens >= h.n_tokens ||
        h.parent_key_bytes > h.key_bytes || h.key_bytes - h.parent_key_bytes != h.text.size() ||
        (!has_parent && h.parent_key_bytes > 0) || h.fingerprint.empty() ||
        h.section(Section::Kind::tokens).bytes != std::uint64_t{4} * (h.n_tokens - h.n_parent_tokens)) {
        throw KvError("its header contradicts itself");
    }
}

}  // namespace

const char* to_string(Reason reason) {
    switch (reason) {
        case Reason::cold:
            return "cold";
        case Reason::continued:
            return "continued";
        case Reason::evict:
            return "evict";
        case Reason::shutdown:
            return "shutdown";
        case Reason::unknown:
            break;
    }
    return "unknown";
}

const Section& FileHeader::section(Section::Kind kind) const {
    return sections[static_cast<std::size_t>(kind) - 1];
}

std::uint64_t FileHeader::file_bytes() const {
    return sections.back().offset + sections.back().bytes + tool_map_bytes;
}

std::size_t header_bytes(std::size_t text_bytes) {
    return kEnvelopeBytes + text_bytes + kPayloadHeader;
}

void lay_out(FileHeader& header, std::span<const std::uint64_t> section_bytes) {
    header.sections.clear();
    std::uint64_t at = header_bytes(header.text.size());
    for (std::size_t i = 0; i < section_bytes.size(); ++i) {
        header.sections.push_back({static_cast<Section::Kind>(i + 1), at, section_bytes[i], 0});
        at += section_bytes[i];
    }
}

std::string encode_header(const FileHeader& h) {
    Writer out;
    put_envelope(out, h);
    out.put_text(h.text);
    out.put_text(kPayloadMagic);
    out.put(kPayloadVersion);
    out.put_digest(h.fingerprint);
    out.put_digest(h.tokens_sha1);
    out.put_digest(h.parent);
    out.put_digest(h.parent_tokens_sha1);
    out.put(h.n_parent_tokens);
    out.put(std::uint32_t{0});
    out.put(h.key_bytes);
    out.put(h.parent_key_bytes);
    out.put(h.tool_map_bytes);
    out.put(h.tool_map_checksum);
    out.put(static_cast<std::uint64_t>(h.sections.size()));
    for (const Section& section : h.sections) {
        out.put(section.kind);
        out.put(std::uint32_t{0});
        out.put(section.offset);
        out.put(section.bytes);
        out.put(section.checksum);
    }
    out.put(header_checksum(out.out()));
    return std::move(out.out());
}

std::size_t header_bytes_wanted(std::span<const std::byte> envelope, std::uint64_t file_bytes) {
    if (envelope.size() < kEnvelopeBytes) throw KvError("is cut short");
    if (!as_text(envelope).starts_with(kMagic)) throw ForeignFile("is no KV cache file");
    Reader in(envelope);
    in.get_text(kMagic.size());
    const auto version = in.get<std::uint8_t>();
    if (version != kVersion) throw ForeignFile("has version " + std::to_string(version) + ", expected 1");
    in.get_text(kEnvelopeBytes - kMagic.size() - sizeof version - sizeof(std::uint32_t));
    const std::size_t wanted = header_bytes(in.get<std::uint32_t>());
    if (wanted > file_bytes) throw KvError("is cut short");
    return wanted;
}

FileHeader decode_header(std::span<const std::byte> bytes, std::uint64_t file_bytes) {
    const std::size_t wanted = header_bytes_wanted(bytes, file_bytes);
    if (bytes.size() < wanted) throw KvError("is cut short");
    bytes = bytes.first(wanted);
    Reader in(bytes);
    FileHeader h;
    std::uint64_t payload = 0;
    read_envelope(in, h, payload);
    const std::string_view magic = as_text(bytes.subspan(in.at(), kPayloadMagic.size()));
    if (magic == kFirstDesignMagic) throw ForeignFile("is a checkpoint of antirez/ds4");
    std::uint64_t checksum = 0;
    std::memcpy(&checksum, bytes.data() + wanted - sizeof checksum, sizeof checksum);
    if (checksum != header_checksum(std::string(as_text(bytes.first(wanted - sizeof checksum))))) {
        throw KvError("the checksum of its header is wrong");
    }
    std::uint32_t version = 0;
    std::memcpy(&version, bytes.data() + in.at() + kPayloadMagic.size(), sizeof version);
    if (magic != kPayloadMagic || version != kPayloadVersion) {
        throw ForeignFile("has a payload of another program or version");
    }
    read_payload_header(in, h);
    check_header(h, payload, file_bytes);
    return h;
}

std::string key_name(std::string_view key, bool is_salted) {
    Sha1 sha1;
    if (is_salted) sha1.update(std::string_view("\1"));
    sha1.update(key);
    return sha1.hex();
}

std::string tokens_sha1(std::span<const std::int32_t> tokens) {
    return sha1_hex(std::as_bytes(tokens));
}

// ---- tool map ----

namespace {

constexpr std::string_view kMapMagic = "KTM";
constexpr std::uint8_t kMapVersion = 1;
constexpr std::size_t kMaxIdBytes = 256;
constexpr std::size_t kMaxBlockBytes = std::size_t{512} << 20;

}  // namespace

std::string encode_tool_map(std::span<const ToolMapEntry> entries) {
    if (entries.empty()) return {};
    Writer out;
    out.put_text(kMapMagic);
    out.put(kMapVersion);
    out.put(static_cast<std::uint32_t>(entries.size()));
    for (const ToolMapEntry& entry : entries) {
        out.put(static_cast<std::uint32_t>(entry.id.size()));
        out.put(static_cast<std::uint32_t>(entry.block.size()));
        out.put_text(entry.id);
        out.put_text(entry.block);
    }
    return std::move(out.out());
}

std::vector<ToolMapEntry> decode_tool_map(std::string_view bytes) {
    std::vector<ToolMapEntry> entries;
    constexpr std::size_t kHead = 8;
    if (bytes.size() < kHead || !bytes.starts_with(kMapMagic) || bytes[3] != kMapVersion) return entries;
    std::uint32_t count = 0;
    std::memcpy(&count, bytes.data() + 4, sizeof count);
    bytes.remove_prefix(kHead);
    for (std::uint32_t i = 0; i < count && bytes.size() >= kHead; ++i) {
        std::uint32_t sizes[2];
        std::memcpy(sizes, bytes.data(), sizeof sizes);
        bytes.remove_prefix(kHead);
        const std::size_t id = sizes[0], block = sizes[1];
        if (id == 0 || id > kMaxIdBytes || block > kMaxBlockBytes || id + block > bytes.size()) break;
        entries.push_back({std::string(bytes.substr(0, id)), std::string(bytes.substr(id, block))});
        bytes.remove_prefix(id + block);
    }
    return entries;
}

}  // namespace ds4::kv
