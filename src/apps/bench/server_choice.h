#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/app.h"
#include "apps/bench/child_server.h"

namespace ds4::bench {

// Which server a command measures: a running one, or one that it starts.
struct ServerChoice {
    std::string url, key;              // of a running one; no url: start one
    std::string model;                 // of the one that is started; or empty
    std::vector<std::string> options;  // more of that one's

    void add_options(CLI::App& command);
};

// The server chosen; one that was started ends with this.
class ChosenServer {
  public:
    // own_options: what the command itself wants of a server that is started; the user's come behind them.
    // Throws Error.
    explicit ChosenServer(const ServerChoice& choice, std::vector<std::string> own_options = {});

    const Server& address() const { return address_; }

  private:
    std::unique_ptr<ChildServer> child_;
    Server address_;
};

}  // namespace ds4::bench
