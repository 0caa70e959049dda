#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace ds4 {
namespace {

constexpr auto kFirst = std::chrono::seconds(1);
constexpr auto kEveryOnTerminal = std::chrono::milliseconds(100);
constexpr auto kEveryElsewhere = std::chrono::seconds(10);
constexpr int kBarWidth = 30;

// "1.23 G" in decimal multiples.
std::string short_number(double value) {
    constexpr std::array<const char*, 5> kMultiples = {"", "k", "M", "G", "T"};
    std::size_t i = 0;
    for (; value >= 10000 && i + 1 < kMultiples.size(); ++i) value /= 1000;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), i == 0 ? "%.0f %s" : "%.1f %s", value, kMultiples[i]);
    return text.data();
}

std::string clock_text(double seconds) {
    const auto s = static_cast<long>(std::min(seconds, 359999.0));
    std::array<char, 32> text{};
    if (s >= 3600) {
        std::snprintf(text.data(), text.size(), "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    } else {
        std::snprintf(text.data(), text.size(), "%ld:%02ld", s / 60, s % 60);
    }
    return text.data();
}

}  // namespace

ProgressBar::ProgressBar(std::string title, std::uint64_t total, std::string unit)
    : title_(std::move(title)),
      total_(std::max<std::uint64_t>(total, 1)),
      unit_(std::move(unit)),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      next_(start_ + kFirst) {}

ProgressBar::~ProgressBar() {
    finish();
}

std::string ProgressBar::line(std::uint64_t done, double seconds) const {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    const double rate = static_cast<double>(done) / seconds;
    std::string text = title_ + " ";
    if (terminal_) {
        const auto filled = static_cast<std::size_t>(share * kBarWidth);
        text += '[';
        text.append(filled, '#').append(kBarWidth - filled, '.').append("] ");
    }
    text += std::to_string(static_cast<int>(share * 100)) + " %, " + short_number(rate) + unit_ + "/s";
    if (done > 0) text += ", " + clock_text(seconds * (1 - share) / std::max(share, 1e-9)) + " left";
    return text;
}

void ProgressBar::update(std::uint64_t done) {
    const auto now = Clock::now();
    if (finished_ || now < next_) return;
    next_ = now + (terminal_ ? Clock::duration(kEveryOnTerminal) : Clock::duration(kEveryElsewhere));
    shown_ = true;
    const std::string text = line(done, std::chrono::duration<double>(now - start_).count());
    std::fprintf(stderr, terminal_ ? "\r%s\033[K" : "%s\n", text.c_str());
    std::fflush(stderr);
}

void ProgressBar::finish() {
    if (finished_) return;
    finished_ = true;
    if (!shown_ || !terminal_) return;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
}

}  // namespace ds4
