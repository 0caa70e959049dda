#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ds4 {

// Progress of a long job on standard error: a bar with rate and remaining time on a terminal, a plain line
// now and then elsewhere. Quiet for jobs that end within a second.
class ProgressBar {
  public:
    // unit: what is counted, e.g. "tokens"; "bytes" is shown in decimal multiples.
    ProgressBar(std::string title, std::uint64_t total, std::string unit);
    ~ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    void update(std::uint64_t done);
    // Takes the bar away; nothing is printed afterwards.
    void finish();

  private:
    using Clock = std::chrono::steady_clock;

    std::string line(std::uint64_t done, double seconds) const;

    std::string title_;
    std::uint64_t total_;
    std::string unit_;
    bool terminal_;
    bool shown_ = false;
    bool finished_ = false;
    Clock::time_point start_;
    Clock::time_point next_;
};

}  // namespace ds4
