#include "backend/cpu/dot.h"

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/dot.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#if HWY_TARGET == HWY_SCALAR
#include "backend/cpu/dot_lanes_scalar-inl.h"
#else
#include "backend/cpu/dot_lanes-inl.h"
#endif
#include "backend/cpu/dot_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

template <typename Kernel, std::size_t kActs>
void run_group(const std::byte* w, std::size_t n, const std::byte* acts, std::size_t act_stride, float* y,
               std::size_t y_stride) {
    Acts<kActs> rows;
    for (std::size_t r = 0; r < kActs; ++r) rows[r] = acts + r * act_stride;
    float dots[kActs];
    Kernel::template run<kActs>(w, n, rows, dots);
    for (std::size_t r = 0; r < kActs; ++r) y[r * y_stride] = dots[r];
}

// Groups of 4 activation rows, the most whose sums stay in registers, and what is left.
template <typename Kernel>
void run_all(const std::byte* w, std::size_t n, const std::byte* acts, std::size_t act_stride,
             std::size_t n_acts, float* y, std::size_t y_stride) {
    for (; n_acts >= 4; n_acts -= 4, acts += 4 * act_stride, y += 4 * y_stride) {
        run_group<Kernel, 4>(w, n, acts, act_stride, y, y_stride);
    }
    if (n_acts == 3) run_group<Kernel, 3>(w, n, acts, act_stride, y, y_stride);
    if (n_acts == 2) run_group<Kernel, 2>(w, n, acts, act_stride, y, y_stride);
    if (n_acts == 1) run_group<Kernel, 1>(w, n, acts, act_stride, y, y_stride);
}

void dot_row_on_target(quant::Type type, const std::byte* w, std::size_t n, const std::byte* acts,
                       std::size_t act_stride, std::size_t n_acts, float* y, std::size_t y_stride) {
    switch (type) {
        case quant::Type::f32:
            return run_all<DotF32>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::f16:
            return run_all<DotF16>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::bf16:
            return run_all<DotBf16>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::q8_0:
            return run_all<DotQ8<Q8_0Block>>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::mxfp4:
            return run_all<DotQ8<Mxfp4Block>>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::q2_k:
            return run_all<DotQ2K>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::q4_k:
            return run_all<DotQ4K>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::iq2_xxs:
            return run_all<DotIQ2XXS>(w, n, acts, act_stride, n_acts, y, y_stride);
        case quant::Type::i32:
            break;  // refused by activation_format
    }
}

const char* target_name() {
    return hwy::TargetName(HWY_TARGET);
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backend/cpu/dot_targets.h"

namespace ds4::cpu {

HWY_EXPORT(dot_row_on_target);
HWY_EXPORT(target_name);

void dot_row(quant::Type type, const std::byte* w, std::size_t n, const std::byte* acts,
             std::size_t act_stride, std::size_t n_acts, float* y, std::size_t y_stride) {
    HWY_DYNAMIC_DISPATCH(dot_row_on_target)(type, w, n, acts, act_stride, n_acts, y, y_stride);
}

const char* simd_target() {
    return HWY_DYNAMIC_DISPATCH(target_name)();
}

std::vector<std::int64_t> simd_targets() {
    return hwy::SupportedAndGeneratedTargets();
}

ForcedSimdTarget::ForcedSimdTarget(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
}
ForcedSimdTarget::~ForcedSimdTarget() {
    hwy::SetSupportedTargetsForTest(0);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
