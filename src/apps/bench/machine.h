#pragma once

#include <string>

namespace ds4::bench {

// What this machine can do at best, by all threads together.
struct MachineLimits {
    int threads = 0;
    double read_bytes = 0;  // per second, from memory
    double int8_ops = 0;    // per second; a multiplication and an addition are two
    double f32_ops = 0;
    std::string instructions;  // that the operations were measured with
};

// Takes about two seconds and memory of the size of kReadBytes, which is far more than the caches hold. The
// best of several passes counts, as other programs can only slow a pass down. threads: 0 is one per usable
// core.
inline constexpr std::size_t kReadBytes = std::size_t{1} << 30;
MachineLimits measure_machine(int threads);

}  // namespace ds4::bench
