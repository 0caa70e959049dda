#include "backend/cpu/dot.h"

#include "backend/cpu/dot_targets.h"

namespace ds4::cpu {
void multiply_rows(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    multiply_rows_avx512(w, x, y, y_stride);
}
const char* simd_target() {
    return "AVX512_VNNI";
}
std::vector<std::int64_t> simd_targets() {
    return {0};
}
ForcedSimdTarget::ForcedSimdTarget(std::int64_t) {}
ForcedSimdTarget::~ForcedSimdTarget() {}
}  // namespace ds4::cpu
