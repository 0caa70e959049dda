#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>

#include "ds4/error.h"

namespace ds4 {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* action, int error) {
    throw IoError(path.string() + ": " + action + ": " + std::strerror(error));
}

struct Descriptor {
    int fd;
    explicit Descriptor(int open_fd) : fd(open_fd) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { ::close(fd); }
};

// The files that are mapped now, by their addresses.
class Mappings {
  public:
    struct File {
        std::size_t size;
        std::shared_ptr<const Descriptor> descriptor;
        std::filesystem::path path;
    };
    // A stretch of one of them.
    struct Place {
        File file;
        std::size_t offset;
    };

    void add(const std::byte* begin, File file) {
        const std::unique_lock lock(mutex_);
        files_.emplace(begin, std::move(file));
    }
    void remove(const std::byte* begin) {
        const std::unique_lock lock(mutex_);
        files_.erase(begin);
    }
    std::optional<Place> find(std::span<const std::byte> bytes) const {
        const std::shared_lock lock(mutex_);
        auto at = files_.upper_bound(bytes.data());
        if (at == files_.begin()) return std::nullopt;
        --at;
        const auto offset = static_cast<std::size_t>(bytes.data() - at->first);
        if (offset + bytes.size() > at->second.size) return std::nullopt;
        return Place{at->second, offset};
    }

  private:
    mutable std::shared_mutex mutex_;
    std::map<const std::byte*, File> files_;
};

Mappings& mappings() {
    static Mappings all;
    return all;
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer; it is refused below.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) fail(path, "cannot open", errno);
    auto descriptor = std::make_shared<const Descriptor>(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0) fail(path, "cannot stat", errno);
    if (!S_ISREG(status.st_mode)) throw IoError(path.string() + ": not a regular file");
    MappedFile file;
    file.path_ = path;
    file.size_ = static_cast<std::size_t>(status.st_size);
    if (file.size_ == 0) return file;
    void* address = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) fail(path, "cannot map", errno);
    file.data_ = static_cast<const std::byte*>(address);
    mappings().add(file.data_, {file.size_, std::move(descriptor), path});
    return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(path_, other.path_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_ == nullptr) return;
    mappings().remove(data_);
    ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> range) const {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<std::uintptr_t>(range.data()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(range.data()) + range.size()) / page * page;
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void read_bytes(std::span<const std::byte> from, std::byte* to) {
    const auto place = mappings().find(from);
    if (!place) {
        std::copy(from.begin(), from.end(), to);
        return;
    }
    for (std::size_t done = 0; done < from.size();) {
        const ::ssize_t n = ::pread(place->file.descriptor->fd, to + done, from.size() - done,
                                    static_cast<off_t>(place->offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(place->file.path, "cannot read", errno);
        if (n == 0) throw IoError(place->file.path.string() + ": has become shorter while it was in use");
        done += static_cast<std::size_t>(n);
    }
}

void will_read(std::span<const std::byte> bytes) {
    const auto place = mappings().find(bytes);
    if (!place) return;
    ::posix_fadvise(place->file.descriptor->fd, static_cast<off_t>(place->offset),
                    static_cast<off_t>(bytes.size()), POSIX_FADV_WILLNEED);
}

}  // namespace ds4
