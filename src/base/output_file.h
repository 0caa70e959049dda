#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace ds4 {

// Writes a file under a temporary name beside the target and renames it at the end, so that the target
// is either the old file or the whole new one. Destroyed without commit(), it removes what it wrote.
class OutputFile {
  public:
    // Creates PATH.tmp-PID beside the target. Throws IoError.
    explicit OutputFile(std::filesystem::path path);
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    ~OutputFile();

    // Appends; throws IoError (disk full among others).
    void write(std::span<const std::byte> bytes);
    void write(const std::string& text) { write(std::as_bytes(std::span(text))); }
    std::uint64_t size() const { return size_; }

    // Flushes, fsyncs the file, renames it onto the target and fsyncs the directory. Throws IoError.
    void commit();

  private:
    void flush();

    std::filesystem::path path_;
    std::filesystem::path temporary_;
    std::string buffer_;
    std::uint64_t size_ = 0;
    int fd_ = -1;
};

}  // namespace ds4
