#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace ds4 {

// A whole file mapped read-only. Views into bytes() live as long as the object; moving keeps them valid.
class MappedFile {
  public:
    // Throws IoError (missing, a directory, unreadable, cannot be mapped). An empty file gives empty bytes().
    static MappedFile open(const std::filesystem::path& path);

    MappedFile() = default;
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::filesystem::path& path() const { return path_; }

    // Lets the kernel drop these pages from memory again; for readers that stream through a large file once.
    void release(std::span<const std::byte> range) const;

  private:
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::filesystem::path path_;
};

// Copies bytes from anywhere in memory. Those of a mapped file are read from the file, which needs no page
// tables: for pages that nobody has looked at yet it is faster than looking. Thread-safe. Throws IoError
// (cannot read, the file has become shorter).
void read_bytes(std::span<const std::byte> from, std::byte* to);
// These bytes will be read soon: the kernel may fetch them from the disk meanwhile. Ignored where they are
// not a mapped file's.
void will_read(std::span<const std::byte> bytes);

}  // namespace ds4
