#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "temporary_directory.h"

namespace ds4::test {

// A running server, up once this is constructed. Killed at the end.
class RunningServer {
  public:
    // ds4-server with the bundled model on a free port.
    explicit RunningServer(const std::vector<std::string>& arguments);
    // Another program of the build that serves.
    RunningServer(const std::string& program, const std::vector<std::string>& arguments);
    ~RunningServer();
    RunningServer(const RunningServer&) = delete;
    RunningServer& operator=(const RunningServer&) = delete;

    std::uint16_t port() const { return port_; }
    std::string log_text() const { return read_file(dir_ / "log"); }
    std::size_t resident_bytes() const;
    bool has_open(int fd) const;
    // Waits until it has said this often that it listens; false if it does not, or ends.
    bool has_come_up(int times) const;

    // Returns the exit status, or 128 + signal.
    int stop(int signal);
    int wait();  // until it ends by itself

  private:
    TemporaryDirectory dir_;
    pid_t child_ = -1;
    std::uint16_t port_ = 0;
};

}  // namespace ds4::test
