#pragma once

#include <cstdint>
#include <string>

namespace ds4 {

// What one operation of the model cost in one part of it, over any number of calls.
struct OpProfile {
    std::string section;    // "SWA layers", "CSA layers", "HCA layers", "embedding" or "output head"
    std::string operation;  // with its shape where weights are involved, e.g. "matmul Q8_0 4096 x 1024"
    std::uint64_t calls = 0;
    double seconds = 0;
    double bytes = 0;  // weights, history and activations that it had to read or write
    double ops = 0;    // of products; a multiplication and an addition are two. 0: it does next to none
};

}  // namespace ds4
