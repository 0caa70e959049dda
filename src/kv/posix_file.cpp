#include "kv/posix_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "ds4/error.h"

namespace ds4::kv {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* action, int error) {
    throw IoError(path.string() + ": " + action + ": " + std::strerror(error));
}

}  // namespace

std::optional<PosixFile> PosixFile::open_existing(const std::filesystem::path& path, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
    if (fd >= 0) return PosixFile(fd, path);
    if (errno == ENOENT) return std::nullopt;
    fail(path, "cannot open", errno);
}

PosixFile PosixFile::open(const std::filesystem::path& path, int flags, int mode) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd < 0) fail(path, "cannot open", errno);
    return {fd, path};
}

PosixFile::PosixFile(PosixFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

PosixFile::~PosixFile() {
    if (fd_ >= 0) ::close(fd_);
}

std::uint64_t PosixFile::size() const {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) fail(path_, "cannot look at", errno);
    return static_cast<std::uint64_t>(status.st_size);
}

void PosixFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
        const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(path_, "cannot read", errno);
        if (n == 0) throw IoError(path_.string() + ": is cut short");
        out = out.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
}

void PosixFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
        const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(path_, "cannot write", errno);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
}

void PosixFile::resize(std::uint64_t bytes) const {
    if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) fail(path_, "cannot resize", errno);
}

void PosixFile::reserve(std::uint64_t bytes) const {
    const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
    // Where a file system cannot, the write may find the disk full.
    if (error != 0 && error != EOPNOTSUPP && error != EINVAL) fail(path_, "cannot take space", error);
}

void PosixFile::sync() const {
    if (::fsync(fd_) != 0) fail(path_, "cannot sync", errno);
}

bool PosixFile::lock(bool wait) const {
    while (::flock(fd_, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno != EINTR) fail(path_, "cannot lock", errno);
    }
    return true;
}

void sync_directory(const std::filesystem::path& directory) {
    PosixFile::open(directory, O_RDONLY | O_DIRECTORY).sync();
}

}  // namespace ds4::kv
