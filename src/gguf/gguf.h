#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "quant/format.h"

// GGUF containers, version 3, little-endian (model.md 2). The reader maps the file and copies nothing but
// the directory; it trusts no count, length, offset or shape before checking it against the file.
namespace ds4::gguf {

enum class ValueType : std::uint32_t {
    u8 = 0,
    i8,
    u16,
    i16,
    u32,
    i32,
    f32,
    boolean,
    string,
    array,
    u64,
    i64,
    f64,
};

const char* type_name(ValueType type);
// Bytes of one item; 0 for strings and arrays, whose size varies.
std::size_t type_size(ValueType type);

// One metadata value, a view into the mapped file. Arrays hold scalars or strings (nested arrays are
// refused by the reader: no key of this model has one).
struct Value {
    ValueType type;
    ValueType item_type;               // of an array; otherwise equal to type
    std::uint64_t count;               // items of an array, otherwise 1
    std::span<const std::byte> bytes;  // the encoded value, or all encoded items of an array
};

struct Tensor {
    std::string_view name;
    const quant::Format* format;
    int n_dims;                       // 1..4
    std::array<std::uint64_t, 4> ne;  // ne[0] is contiguous; unused dimensions are 1 (model.md "ne order")
    std::uint64_t offset;             // from the start of the data section
    std::span<const std::byte> data;

    std::uint64_t rows() const { return ne[1] * ne[2] * ne[3]; }
    std::uint64_t elements() const { return ne[0] * rows(); }
};

class File {
  public:
    // Throws IoError, GgufError.
    static File open(const std::filesystem::path& path);
    // The same on bytes in memory, which must outlive the object; `name` stands for the file in messages.
    static File parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

    const std::filesystem::path& path() const { return path_; }
    std::uint64_t alignment() const { return alignment_; }

    // Metadata in file order.
    std::span<const std::pair<std::string_view, Value>> metadata() const { return metadata_; }
    const Value* find(std::string_view key) const;  // nullptr if absent

    // Typed access. `find_*` gives nullopt for an absent key; all throw GgufError naming the file and key
    // when the key is there with another type, or (integers) with a value that does not fit. Integers accept
    // any integer type; floats accept f32 and f64.
    std::optional<std::uint64_t> find_uint(std::string_view key) const;
    std::optional<double> find_float(std::string_view key) const;
    std::optional<bool> find_bool(std::string_view key) const;
    std::optional<std::string_view> find_string(std::string_view key) const;
    std::optional<std::vector<std::int64_t>> find_int_array(std::string_view key) const;
    std::optional<std::vector<double>> find_float_array(std::string_view key) const;
    std::optional<std::vector<std::string_view>> find_string_array(std::string_view key) const;

    // Tensors in file order.
    std::span<const Tensor> tensors() const { return tensors_; }
    const Tensor* find_tensor(std::string_view name) const;  // nullptr if absent
    // Of all tensors; bytes that several of them name (aliases) count once.
    std::uint64_t data_bytes() const { return data_bytes_; }

  private:
    friend class Parser;
    File() = default;

    MappedFile map_;
    std::filesystem::path path_;
    std::uint64_t alignment_ = 32;
    std::vector<std::pair<std::string_view, Value>> metadata_;
    // Trees: the names come from the file, which could choose them to collide in a hash table.
    std::map<std::string_view, std::size_t> metadata_index_;
    std::vector<Tensor> tensors_;
    std::map<std::string_view, std::size_t> tensor_index_;
    std::uint64_t data_bytes_ = 0;
};

}  // namespace ds4::gguf
