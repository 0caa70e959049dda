#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "ds4/error.h"

namespace ds4 {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const char* action) {
    const int error = errno;
    throw IoError(path.string() + ": " + action + ": " + std::strerror(error));
}

void write_all(int fd, const char* data, std::size_t size, const std::filesystem::path& path) {
    while (size > 0) {
        const ssize_t written = ::write(fd, data, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail(path, "cannot write");
        data += written;
        size -= static_cast<std::size_t>(written);
    }
}

}  // namespace

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
    temporary_ = path_;
    temporary_ += ".tmp-" + std::to_string(::getpid());
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(path_, "cannot create");
}

OutputFile::~OutputFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
    const auto* data = reinterpret_cast<const char*>(bytes.data());
    size_ += bytes.size();
    if (buffer_.size() + bytes.size() < kBufferBytes) {
        buffer_.append(data, bytes.size());
        return;
    }
    flush();
    write_all(fd_, data, bytes.size(), path_);
}

void OutputFile::flush() {
    write_all(fd_, buffer_.data(), buffer_.size(), path_);
    buffer_.clear();
}

void OutputFile::commit() {
    flush();
    if (::fsync(fd_) != 0) fail(path_, "cannot fsync");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot rename onto");
    ::close(std::exchange(fd_, -1));
    const auto directory = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    const int directory_fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0) fail(directory, "cannot open directory");
    const int synced = ::fsync(directory_fd);
    ::close(directory_fd);
    if (synced != 0) fail(directory, "cannot fsync directory");
}

}  // namespace ds4
