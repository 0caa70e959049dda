#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

// Checkpoints in safetensors files (model.md 14.7). The reader maps the files and copies only names and
// shapes; it believes no length, offset or shape before checking it against the file.
namespace ds4::safetensors {

enum class Dtype : std::uint8_t {
    boolean,
    u8,
    i8,
    f8_e4m3,
    f8_e5m2,
    f8_e8m0,
    u16,
    i16,
    f16,
    bf16,
    u32,
    i32,
    f32,
    u64,
    i64,
    f64
};

std::string_view dtype_name(Dtype dtype);  // "F8_E4M3", as the files spell it
std::size_t dtype_size(Dtype dtype);       // bytes

struct Tensor {
    std::string name;
    Dtype dtype;
    std::vector<std::uint64_t> shape;  // row-major, the last dimension is contiguous; empty: a scalar
    std::span<const std::byte> data;

    std::uint64_t elements() const;
};

class File {
  public:
    // Throws IoError, SafetensorsError.
    static File open(const std::filesystem::path& path);
    // The same on bytes in memory, which must outlive the object; `name` stands for the file in messages.
    static File parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

    const std::filesystem::path& path() const { return path_; }
    std::span<const Tensor> tensors() const { return tensors_; }  // by ascending offset
    // Lets the kernel drop the pages of a part of a tensor; for readers that stream through once.
    void release(std::span<const std::byte> part) const { map_.release(part); }

  private:
    MappedFile map_;
    std::filesystem::path path_;
    std::vector<Tensor> tensors_;
};

// A directory: model.safetensors, or the shards that model.safetensors.index.json names.
class Checkpoint {
  public:
    // Throws IoError, SafetensorsError: no model there, a missing shard, a name in two shards, an index that
    // names files outside the directory or tensors that are not where it says.
    static Checkpoint open(const std::filesystem::path& directory);

    const std::filesystem::path& path() const { return path_; }
    const Tensor* find(std::string_view name) const;  // nullptr if absent
    std::vector<std::string_view> names() const;      // sorted
    // As File::release; `part` lies within the tensor's data.
    void release(const Tensor& tensor, std::span<const std::byte> part) const;

  private:
    struct Place {
        const File* file;
        const Tensor* tensor;
    };
    void add(File file);

    std::filesystem::path path_;
    std::deque<File> files_;
    std::map<std::string_view, Place> index_;
};

}  // namespace ds4::safetensors
