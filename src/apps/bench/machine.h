#pragma once

#include <cstddef>
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

// Takes about a second. Many short passes are timed and a good one of them counts, as other programs can only
// slow a pass down. threads: 0 is one per usable core. read_bytes: of the memory that is read, far more than
// the caches hold.
MachineLimits measure_machine(int threads, std::size_t read_bytes);

}  // namespace ds4::bench
