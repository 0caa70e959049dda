#include "backend/cpu/dot.h"

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/dot.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#define DS4_KERNELS_BEGIN   \
    HWY_BEFORE_NAMESPACE(); \
    namespace ds4::cpu::HWY_NAMESPACE {
#define DS4_KERNELS_END \
    }                   \
    HWY_AFTER_NAMESPACE();
// After foreach_target.h: included anew for each target.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "backend/cpu/dot_lanes-inl.h"
// After the operations.
#include "backend/cpu/dot_formats-inl.h"
// After the formats.
#include "backend/cpu/dot_kernels-inl.h"
#endif

DS4_KERNELS_BEGIN

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
void multiply_on_target(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    for (std::size_t r = 0; r < x.n; ++r) {
        for (std::size_t o = 0; o < w.n; ++o) {
            y[r * y_stride + o] = dot_canonical(w.type, w.row(o), w.width, x.row(r));
        }
    }
}
#endif

const char* target_name() {
    return hwy::TargetName(HWY_TARGET);
}

DS4_KERNELS_END
#undef DS4_KERNELS_BEGIN
#undef DS4_KERNELS_END

#if HWY_ONCE
#include "backend/cpu/dot_targets.h"

namespace ds4::cpu {

#if !HWY_ARCH_X86_64 && !HWY_ARCH_ARM_A64
const char* extra_target() {
    return nullptr;
}
void multiply_rows_extra(const WeightRows&, const Activations&, float*, std::size_t) {}
#endif

namespace {

HWY_EXPORT(multiply_on_target);
HWY_EXPORT(target_name);

bool use_extra = extra_target() != nullptr;

}  // namespace

void multiply_rows(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    if (use_extra) return multiply_rows_extra(w, x, y, y_stride);
    HWY_DYNAMIC_DISPATCH(multiply_on_target)(w, x, y, y_stride);
}

const char* simd_target() {
    return use_extra ? extra_target() : HWY_DYNAMIC_DISPATCH(target_name)();
}

std::vector<std::int64_t> simd_targets() {
    std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
    if (extra_target() != nullptr) targets.insert(targets.begin(), kExtraTarget);
    return targets;
}

bool fuses_multiply_add(std::int64_t target) {
    return target != HWY_SSSE3 && target != HWY_SSE4;
}

ForcedSimdTarget::ForcedSimdTarget(std::int64_t target) {
    use_extra = target == kExtraTarget;
    hwy::SetSupportedTargetsForTest(target);
}
ForcedSimdTarget::~ForcedSimdTarget() {
    use_extra = extra_target() != nullptr;
    hwy::SetSupportedTargetsForTest(0);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
