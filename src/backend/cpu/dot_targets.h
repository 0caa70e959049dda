#pragma once

#include <cstdint>
#include <vector>

// The instruction sets that dot_row was compiled for, for tests and benchmarks.
namespace ds4::cpu {

// Highway's ids of the targets that this machine can run, best first.
std::vector<std::int64_t> simd_targets();

// dot_row runs on `target` (one of simd_targets()) while this object lives. Not for use beside other threads.
class ForcedSimdTarget {
  public:
    explicit ForcedSimdTarget(std::int64_t target);
    ~ForcedSimdTarget();
    ForcedSimdTarget(const ForcedSimdTarget&) = delete;
    ForcedSimdTarget& operator=(const ForcedSimdTarget&) = delete;
};

}  // namespace ds4::cpu
