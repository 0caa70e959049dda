#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/dot.h"

// The instruction sets that multiply_rows was compiled for, for tests and benchmarks.
namespace ds4::cpu {

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

// Kernels for CPUs with integer dot products, which Highway 1.0.3 has no usable target for.
struct ExtraTarget {
    const char* name;
    bool (*usable)();  // on this machine
    void (*multiply_rows)(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride);
};
extern const ExtraTarget kAvx512Target;   // dot_avx512.cpp
extern const ExtraTarget kAvxVnniTarget;  // dot_avxvnni.cpp
extern const ExtraTarget kDotprodTarget;  // dot_dotprod.cpp

}  // namespace ds4::cpu
