#include "apps/profile.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>

namespace ds4::app {
namespace {

OpProfile& operator+=(OpProfile& sum, const OpProfile& more) {
    sum.calls += more.calls;
    sum.seconds += more.seconds;
    sum.bytes += more.bytes;
    sum.ops += more.ops;
    return sum;
}

std::string line_of(const std::string& name, const OpProfile& p, double seconds) {
    std::array<char, 160> text{};
    const auto rate = [&](double amount) {
        std::array<char, 32> number{};
        if (amount > 0 && p.seconds > 0)
            std::snprintf(number.data(), number.size(), "%.2f", amount / p.seconds / 1e9);
        return std::string(number.data());
    };
    std::snprintf(text.data(), text.size(), "  %-36s %9llu %11.2f %7.1f %10s %10s\n", name.c_str(),
                  static_cast<unsigned long long>(p.calls), p.seconds * 1e3, 100 * p.seconds / seconds,
                  rate(p.bytes).c_str(), rate(p.ops).c_str());
    return text.data();
}

// One line per value of a field, the longest first.
std::string table_by(std::string OpProfile::*field, const std::vector<OpProfile>& profile, double seconds) {
    std::vector<OpProfile> sums;
    for (const OpProfile& p : profile) {
        const auto found = std::ranges::find(sums, p.*field, field);
        (found == sums.end() ? sums.emplace_back(OpProfile{p.section, p.operation}) : *found) += p;
    }
    std::ranges::stable_sort(sums, std::greater<>(), &OpProfile::seconds);
    std::string text;
    for (const OpProfile& p : sums) text += line_of(p.*field, p, seconds);
    return text;
}

}  // namespace

void add_profile(std::vector<OpProfile>& sum, const std::vector<OpProfile>& more) {
    for (const OpProfile& p : more) {
        const auto same = [&](const OpProfile& o) {
            return o.section == p.section && o.operation == p.operation;
        };
        const auto found = std::ranges::find_if(sum, same);
        (found == sum.end() ? sum.emplace_back(OpProfile{p.section, p.operation}) : *found) += p;
    }
}

std::string profile_text(const std::string& title, const std::vector<OpProfile>& profile, double seconds) {
    std::array<char, 160> head{};
    std::snprintf(head.data(), head.size(), "  %-36s %9s %11s %7s %10s %10s\n", "", "calls", "ms", "%",
                  "GB/s", "GOP/s");
    OpProfile all;
    for (const OpProfile& p : profile) all += p;
    OpProfile outside;
    outside.seconds = std::max(0.0, seconds - all.seconds);
    return title + "\n" + head.data() + table_by(&OpProfile::operation, profile, seconds) +
           line_of("outside of operations", outside, seconds) + "\n" +
           table_by(&OpProfile::section, profile, seconds) + line_of("all operations", all, seconds);
}

}  // namespace ds4::app
