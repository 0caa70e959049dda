#pragma once

#include <algorithm>

#include "apps/bench/machine.h"
#include "model/step_cost.h"

namespace ds4::bench {

// Seconds that a cost takes at least: reading and computing overlap, the two kinds of products do not.
struct Ceiling {
    Ceiling(const MachineLimits& machine, const Cost& cost)
        : memory(cost.bytes / machine.read_bytes),
          arithmetic(cost.int8_ops / machine.int8_ops + cost.f32_ops / machine.f32_ops) {}

    double memory;
    double arithmetic;
    double seconds() const { return std::max(memory, arithmetic); }
};

}  // namespace ds4::bench
