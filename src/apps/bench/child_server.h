#pragma once

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench/http.h"

namespace ds4::bench {

// The ds4-server that lies beside this program, running on a free port of this machine. It listens once this
// is constructed, and ends with it or with this process, however that ends.
class ChildServer {
  public:
    // Throws Error with the server's own words if it does not come up.
    explicit ChildServer(std::vector<std::string> arguments);
    ~ChildServer();
    ChildServer(const ChildServer&) = delete;
    ChildServer& operator=(const ChildServer&) = delete;

    Server address() const { return {"127.0.0.1", port_, ""}; }

  private:
    void start(std::vector<std::string> arguments);
    bool has_ended();
    std::string log_text() const;
    void stop();

    std::unique_ptr<std::FILE, int (*)(std::FILE*)> log_;  // has no name: nothing is left behind
    pid_t child_ = -1;
    std::string port_;
};

}  // namespace ds4::bench
