#include "gguf/writer.h"

#include <bit>
#include <cstring>
#include <utility>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "gguf/printable.h"

namespace ds4::gguf {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::size_t kMaxNameBytes = 65535;                     // as the reader has it
constexpr std::uint64_t kMaxDataBytes = std::uint64_t{1} << 62;  // no sum below can overflow

std::uint32_t id(ValueType type) {
    return static_cast<std::uint32_t>(type);
}

}  // namespace

Writer::Writer(std::filesystem::path path, std::uint32_t alignment)
    : path_(std::move(path)), alignment_(alignment) {
    if (!std::has_single_bit(alignment) || alignment < 8 || alignment > 65536) {
        fail("alignment " + std::to_string(alignment) + " is not a power of two from 8 to 65536");
    }
    if (alignment == 32) return;
    put_key(kAlignmentKey, id(ValueType::u32));
    put(alignment);
}

void Writer::fail(const std::string& what) const {
    throw GgufError(path_.string() + ": " + what);
}

template <class T>
void Writer::put(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    metadata_.append(bytes, sizeof value);
}

void Writer::put_string(std::string_view text) {
    put<std::uint64_t>(text.size());
    metadata_.append(text);
}

// `what` is the key or tensor.
void Writer::check_declaration(const std::string& what, std::string_view name) const {
    if (file_) fail(what + " is declared after begin()");
    if (name.empty()) fail(what + "has an empty name");
    if (name.size() > kMaxNameBytes) {
        fail(what + " has a name of " + std::to_string(name.size()) + " bytes, at most " +
             std::to_string(kMaxNameBytes) + " are allowed");
    }
}

void Writer::start_key(std::string_view key, std::uint32_t type) {
    check_declaration("key " + printable(key), key);
    if (key == kAlignmentKey) fail("key general.alignment is the constructor's to set");
    put_key(key, type);
}

void Writer::put_key(std::string_view key, std::uint32_t type) {
    if (!keys_.insert(std::string(key)).second) fail("key " + printable(key) + " is set twice");
    put_string(key);
    put(type);
}

template <class T>
void Writer::put_array(std::string_view key, std::uint32_t type, std::span<const T> values) {
    start_key(key, id(ValueType::array));
    put(type);
    put<std::uint64_t>(values.size());
    for (const T value : values) put(value);
}

void Writer::set_u32(std::string_view key, std::uint32_t value) {
    start_key(key, id(ValueType::u32)), put(value);
}
void Writer::set_i32(std::string_view key, std::int32_t value) {
    start_key(key, id(ValueType::i32)), put(value);
}
void Writer::set_u64(std::string_view key, std::uint64_t value) {
    start_key(key, id(ValueType::u64)), put(value);
}
void Writer::set_f32(std::string_view key, float value) {
    start_key(key, id(ValueType::f32)), put(value);
}

void Writer::set_bool(std::string_view key, bool value) {
    start_key(key, id(ValueType::boolean));
    put<std::uint8_t>(value ? 1 : 0);
}

void Writer::set_string(std::string_view key, std::string_view value) {
    start_key(key, id(ValueType::string));
    put_string(value);
}

void Writer::set_i32_array(std::string_view key, std::span<const std::int32_t> values) {
    put_array(key, id(ValueType::i32), values);
}
void Writer::set_u32_array(std::string_view key, std::span<const std::uint32_t> values) {
    put_array(key, id(ValueType::u32), values);
}
void Writer::set_f32_array(std::string_view key, std::span<const float> values) {
    put_array(key, id(ValueType::f32), values);
}

void Writer::set_string_array(std::string_view key, std::span<const std::string> values) {
    start_key(key, id(ValueType::array));
    put(id(ValueType::string));
    put<std::uint64_t>(values.size());
    for (const std::string& value : values) put_string(value);
}

void Writer::add_tensor(std::string_view name, quant::Type type, std::span<const std::uint64_t> ne) {
    const std::string what = "tensor " + printable(name);
    if (ne.empty() || ne.size() > 4) fail(what + " has " + std::to_string(ne.size()) + " dimensions");
    const quant::Format& format = quant::format(type);
    if (ne[0] % format.block_elems != 0) {
        fail(what + ": rows of " + std::to_string(ne[0]) + " are not whole blocks of " +
             std::string(format.name));
    }
    std::uint64_t bytes = ne[0] / format.block_elems;
    bool overflows = __builtin_mul_overflow(bytes, format.block_bytes, &bytes);
    for (const std::uint64_t n : ne.subspan(1)) overflows |= __builtin_mul_overflow(bytes, n, &bytes);
    std::uint64_t end = aligned(data_end_);
    overflows |= __builtin_add_overflow(end, bytes, &end);
    if (overflows || end > kMaxDataBytes) fail(what + " is too large");
    if (bytes == 0) fail(what + " has a dimension of 0");
    add_entry({std::string(name), type, {ne.begin(), ne.end()}, aligned(data_end_), bytes});
    data_end_ = end;
}

void Writer::add_alias(std::string_view name, std::string_view of) {
    const auto original = entry_index_.find(std::string(of));
    if (original == entry_index_.end()) {
        fail("tensor " + printable(name) + " is to share the bytes of " + printable(of) +
             ", which is not declared");
    }
    Entry alias = entries_[original->second];
    alias.name = name;
    alias.bytes = 0;
    add_entry(std::move(alias));
}

void Writer::add_entry(Entry entry) {
    check_declaration("tensor " + printable(entry.name), entry.name);
    if (!entry_index_.emplace(entry.name, entries_.size()).second) {
        fail("tensor " + printable(entry.name) + " is declared twice");
    }
    entries_.push_back(std::move(entry));
}

void Writer::begin() {
    if (file_) fail("begin() is called twice");
    const std::string keys = std::exchange(metadata_, {});
    put<std::uint32_t>(kMagic);
    put<std::uint32_t>(kVersion);
    put<std::uint64_t>(entries_.size());
    put<std::uint64_t>(keys_.size());
    metadata_ += keys;
    for (const Entry& entry : entries_) {
        put_string(entry.name);
        put(static_cast<std::uint32_t>(entry.ne.size()));
        for (const std::uint64_t n : entry.ne) put(n);
        put(static_cast<std::uint32_t>(entry.type));
        put(entry.offset);
    }
    metadata_.resize(aligned(metadata_.size()), '\0');
    file_.emplace(path_);
    file_->write(metadata_);
    data_start_ = file_->size();
    metadata_.clear();
    skip_aliases();
}

void Writer::pad_to(std::uint64_t data_position) {
    const std::uint64_t here = file_->size() - data_start_;
    if (here < data_position) file_->write(std::string(data_position - here, '\0'));
}

// Moves to the next tensor that has data of its own.
void Writer::skip_aliases() {
    while (current_ < entries_.size() && entries_[current_].bytes == 0) ++current_;
}

void Writer::write(std::span<const std::byte> bytes) {
    if (!file_) fail("data is written before begin()");
    if (bytes.empty()) return;
    if (current_ == entries_.size()) fail("more data than the declared tensors hold");
    const Entry& entry = entries_[current_];
    if (bytes.size() > entry.bytes - written_)
        fail("tensor " + printable(entry.name) + ": more data than it holds");
    if (written_ == 0) pad_to(entry.offset);
    file_->write(bytes);
    written_ += bytes.size();
    if (written_ < entry.bytes) return;
    ++current_;
    written_ = 0;
    skip_aliases();
}

void Writer::commit() {
    if (!file_) fail("commit() is called before begin()");
    if (current_ < entries_.size()) {
        fail("tensor " + printable(entries_[current_].name) + " was not written whole");
    }
    pad_to(aligned(data_end_));
    file_->commit();
}

}  // namespace ds4::gguf
