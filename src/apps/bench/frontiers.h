#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ds4::bench {

// The contexts at which speeds are measured: from first to last in steps of `increment`, or each `factor`
// times the one before if that is more than 1. The last is always among them.
struct Frontiers {
    std::int64_t first = 2048, last = 32768, increment = 2048;
    double factor = 1;

    std::vector<std::int64_t> list() const;
};

// A phase at a frontier: what was reached and what is possible.
struct Speed {
    std::int64_t tokens = 0;
    double per_second = 0;
    double bytes_per_second = 0;  // of what it must read
    double ceiling = 0;           // tokens per second
    double share() const { return per_second / ceiling; }
};

struct FrontierSpeed {
    std::int64_t context = 0;
    Speed prefill;  // of the tokens since the frontier before
    Speed decode;   // from this frontier on
    std::size_t kv_bytes = 0;
};

// With the columns of antirez/ds4 first.
std::string csv_of(const std::vector<FrontierSpeed>& speeds);
std::string svg_of(const std::vector<FrontierSpeed>& speeds, const std::string& title);

}  // namespace ds4::bench
