#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/dot.h"

// The instruction sets that multiply_rows was compiled for, for tests and benchmarks.
namespace ds4::cpu {

// The id of our own kernels for AVX-512 with VNNI, VBMI and GFNI beside Highway's ids of its targets.
inline constexpr std::int64_t kAvx512Target = 0;

// The targets that this machine can run, best first.
std::vector<std::int64_t> simd_targets();

// Whether multiply_rows has the bits of dot_canonical there: SSE cannot multiply and add with one rounding.
bool fuses_multiply_add(std::int64_t target);

// Everything runs on `target` (one of simd_targets()) while this object lives. Not for use beside other
// threads.
class ForcedSimdTarget {
  public:
    explicit ForcedSimdTarget(std::int64_t target);
    ~ForcedSimdTarget();
    ForcedSimdTarget(const ForcedSimdTarget&) = delete;
    ForcedSimdTarget& operator=(const ForcedSimdTarget&) = delete;
};

// dot_avx512.cpp, x86-64 only.
bool has_avx512();
void multiply_rows_avx512(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride);

}  // namespace ds4::cpu
