#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

namespace ds4::server {

// Waits between tries of something that goes wrong: the first wait, then twice as long with every other, up
// to a longest. What has worked for more than the longest wait starts anew. Whose clock it is does not
// matter.
class Backoff {
  public:
    using Clock = std::chrono::steady_clock;

    Backoff(std::chrono::milliseconds first, std::chrono::milliseconds longest)
        : first_(first), longest_(std::max(first, longest)) {}

    // Nothing has gone wrong lately: the next try need not wait.
    bool is_fresh(Clock::time_point now) const {
        return works_since_ ? now - *works_since_ > longest_ : wait_.count() == 0;
    }
    // It has gone wrong: how long to wait.
    std::chrono::milliseconds next(Clock::time_point now) {
        wait_ = is_fresh(now) || wait_.count() == 0 ? first_ : std::min(2 * wait_, longest_);
        works_since_.reset();
        return wait_;
    }
    // A try has worked. That alone does not shorten the waits.
    void works(Clock::time_point now) { works_since_ = now; }

  private:
    std::chrono::milliseconds first_, longest_;
    std::chrono::milliseconds wait_{0};  // the last one; 0: there was none
    std::optional<Clock::time_point> works_since_;
};

}  // namespace ds4::server
