// Any bytes either are the header of a checkpoint, which then says the same when it is written again, or give
// a KvError. A checksum would keep the fuzzer out, so it is made right.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "kv/file_format.h"

namespace {

using namespace ds4::kv;

constexpr std::size_t kTextOffset = 48;

// Makes the text as long as the bytes allow, and the checksum true.
void repair(std::string& bytes, std::size_t text_bytes) {
    std::memcpy(bytes.data(), "KVC\1", 4);
    const auto length = static_cast<std::uint32_t>(text_bytes);
    std::memcpy(bytes.data() + kTextOffset, &length, sizeof length);
    std::memcpy(bytes.data() + kEnvelopeBytes + text_bytes, "DS4P\1\0\0\0", 8);
    const std::size_t end = header_bytes(text_bytes) - sizeof(std::uint64_t);
    std::string covered = bytes.substr(0, end);
    std::fill_n(covered.begin() + kHitsOffset, 4, '\0');
    std::fill_n(covered.begin() + kLastUsedOffset, 8, '\0');
    const std::uint64_t checksum = ds4::xxh3(std::as_bytes(std::span(covered)));
    std::memcpy(bytes.data() + end, &checksum, sizeof checksum);
}

void try_header(const std::string& bytes, std::uint64_t file_bytes) {
    try {
        const FileHeader header = decode_header(std::as_bytes(std::span(bytes)), file_bytes);
        if (header.file_bytes() != file_bytes) std::abort();
        const std::string again = encode_header(header);
        const FileHeader same = decode_header(std::as_bytes(std::span(again)), file_bytes);
        if (same.text != header.text || same.parent != header.parent) std::abort();
    } catch (const KvError& error) {
        if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    try_header(bytes, size);
    const auto entries = decode_tool_map(bytes);
    if (decode_tool_map(encode_tool_map(entries)) != entries) std::abort();
    if (size < header_bytes(0)) return 0;
    repair(bytes, (size - header_bytes(0)) % 64);
    try_header(bytes, size);
    // The size that the file would need.
    std::uint64_t payload = 0;
    std::memcpy(&payload, bytes.data() + 40, sizeof payload);
    try_header(bytes, payload + kEnvelopeBytes + (size - header_bytes(0)) % 64);
    return 0;
}
