#include "apps/start_anew.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string>

#include "ds4/error.h"

namespace ds4::app {
namespace {

constexpr const char* kThisProgram = "/proc/self/exe";

// Libraries open some that would stay open: sockets, a driver's devices.
void close_files_on_exec() {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
        const std::string name = entry.path().filename();
        int fd = 0;
        std::from_chars(name.data(), name.data() + name.size(), fd);
        if (fd > STDERR_FILENO) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

}  // namespace

void start_anew(char** argv) {
    close_files_on_exec();
    // By its own name, which ps shows; a program whose file has been replaced has none any more.
    std::error_code error;
    const auto program = std::filesystem::read_symlink(kThisProgram, error);
    if (!error) ::execv(program.c_str(), argv);
    ::execv(kThisProgram, argv);
    throw Error(std::string("cannot start this program anew: ") + std::strerror(errno));
}

}  // namespace ds4::app
