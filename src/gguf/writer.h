#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/output_file.h"
#include "quant/format.h"

namespace ds4::gguf {

// Writes a GGUF file in one pass: metadata and tensors are declared first, then the data is streamed tensor
// by tensor in the order of the declarations. The target appears whole at commit() or not at all.
class Writer {
  public:
    // alignment: a power of two from 8 to 65536 (gguf.h refuses others). Throws GgufError.
    explicit Writer(std::filesystem::path path, std::uint32_t alignment = 32);

    // Metadata, in file order. Throw GgufError if the key stands already or is general.alignment, which is
    // the constructor's, and for names that the reader refuses (empty or longer than 65535 bytes).
    void set_u32(std::string_view key, std::uint32_t value);
    void set_i32(std::string_view key, std::int32_t value);
    void set_u64(std::string_view key, std::uint64_t value);
    void set_f32(std::string_view key, float value);
    void set_bool(std::string_view key, bool value);
    void set_string(std::string_view key, std::string_view value);
    void set_i32_array(std::string_view key, std::span<const std::int32_t> values);
    void set_u32_array(std::string_view key, std::span<const std::uint32_t> values);
    void set_f32_array(std::string_view key, std::span<const float> values);
    void set_string_array(std::string_view key, std::span<const std::string> values);

    // ne[0] is contiguous. Throws GgufError: a name twice or one that the reader refuses, no or more than 4
    // dimensions, a dimension of 0, rows that are not whole blocks, a size that overflows.
    void add_tensor(std::string_view name, quant::Type type, std::span<const std::uint64_t> ne);
    // A second name for the bytes of a tensor declared before; it has no data of its own.
    void add_alias(std::string_view name, std::string_view of);

    // Creates the temporary file and writes header and directory. Nothing can be declared afterwards: that
    // throws GgufError, and so do write() and commit() before begin().
    void begin();
    // The next bytes of the tensor in progress; moves to the next tensor when it is complete. Throws
    // GgufError if they are more than the tensor holds, IoError.
    void write(std::span<const std::byte> bytes);
    // Throws GgufError if a tensor is incomplete, IoError.
    void commit();

    std::uint64_t data_bytes() const {
        return data_end_;
    }  // of all declared tensors, with padding between them

  private:
    struct Entry {
        std::string name;
        quant::Type type;
        std::vector<std::uint64_t> ne;
        std::uint64_t offset;  // from the start of the data section
        std::uint64_t bytes;   // 0 for an alias
    };

    [[noreturn]] void fail(const std::string& what) const;
    void check_declaration(const std::string& what, std::string_view name) const;
    std::uint64_t aligned(std::uint64_t position) const {
        return (position + alignment_ - 1) / alignment_ * alignment_;
    }
    void add_entry(Entry entry);
    void skip_aliases();
    void start_key(std::string_view key, std::uint32_t type);
    void put_key(std::string_view key, std::uint32_t type);
    template <class T>
    void put(T value);
    void put_string(std::string_view text);
    template <class T>
    void put_array(std::string_view key, std::uint32_t type, std::span<const T> values);
    void pad_to(std::uint64_t data_position);

    std::filesystem::path path_;
    std::uint32_t alignment_;
    std::string metadata_;  // encoded
    std::unordered_set<std::string> keys_;
    std::vector<Entry> entries_;
    std::unordered_map<std::string, std::size_t> entry_index_;
    std::uint64_t data_end_ = 0;
    std::uint64_t data_start_ = 0;  // in the file; known from begin() on

    std::optional<OutputFile> file_;
    std::size_t current_ = 0;    // entry in progress
    std::uint64_t written_ = 0;  // bytes of it
};

}  // namespace ds4::gguf
