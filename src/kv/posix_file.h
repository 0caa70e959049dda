#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ds4::kv {

// A file descriptor that closes itself; reads and writes say what went wrong with which file.
class PosixFile {
  public:
    PosixFile() = default;
    // Throws IoError.
    static PosixFile open(const std::filesystem::path& path, int flags, int mode = 0);
    // nullopt if there is no such file.
    static std::optional<PosixFile> open_existing(const std::filesystem::path& path, int flags);
    PosixFile(PosixFile&& other) noexcept;
    PosixFile& operator=(PosixFile&& other) noexcept;
    PosixFile(const PosixFile&) = delete;
    PosixFile& operator=(const PosixFile&) = delete;
    ~PosixFile();

    int fd() const { return fd_; }
    std::uint64_t size() const;
    // Exactly this many bytes, or IoError.
    void read_at(std::uint64_t offset, std::span<std::byte> out) const;
    void write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;
    void resize(std::uint64_t bytes) const;
    // Takes the space on the disk. Throws IoError (no space left).
    void reserve(std::uint64_t bytes) const;
    void sync() const;
    // flock; false if somebody else has it. wait: until nobody has.
    bool lock(bool wait) const;

  private:
    PosixFile(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}

    int fd_ = -1;
    std::filesystem::path path_;
};

// Makes renames and removals in a directory durable. Throws IoError.
void sync_directory(const std::filesystem::path& directory);

}  // namespace ds4::kv
