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
#include <algorithm>

#include "backend/cpu/dot_targets.h"

namespace ds4::cpu {

namespace {

HWY_EXPORT(multiply_on_target);
HWY_EXPORT(target_name);

// Targets of our own, best first; nullptr ends the list.
constexpr const ExtraTarget* kExtraTargets[] = {
#if defined(__x86_64__)
    &kAvx512Target,
    &kAvxVnniTarget,
#elif defined(__aarch64__)
    &kDotprodTarget,
#endif
    nullptr,
};

// Their ids are negative, Highway's are not.
std::int64_t id_of(std::size_t i) {
    return -1 - static_cast<std::int64_t>(i);
}

const ExtraTarget* best_extra_target() {
    for (const ExtraTarget* const* t = kExtraTargets; *t != nullptr; ++t) {
        if ((*t)->usable()) return *t;
    }
    return nullptr;
}

const ExtraTarget* extra_target = best_extra_target();

}  // namespace

void multiply_rows(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    if (extra_target != nullptr) return extra_target->multiply_rows(w, x, y, y_stride);
    HWY_DYNAMIC_DISPATCH(multiply_on_target)(w, x, y, y_stride);
}

const char* simd_target() {
    return extra_target != nullptr ? extra_target->name : HWY_DYNAMIC_DISPATCH(target_name)();
}

std::vector<std::int64_t> simd_targets() {
    std::vector<std::int64_t> targets;
    for (std::size_t i = 0; kExtraTargets[i] != nullptr; ++i) {
        if (kExtraTargets[i]->usable()) targets.push_back(id_of(i));
    }
    const std::vector<std::int64_t> others = hwy::SupportedAndGeneratedTargets();
    targets.insert(targets.end(), others.begin(), others.end());
    return targets;
}

bool fuses_multiply_add(std::int64_t target) {
    return target != HWY_SSSE3 && target != HWY_SSE4;
}

ForcedSimdTarget::ForcedSimdTarget(std::int64_t target) {
    extra_target = target < 0 ? kExtraTargets[-1 - target] : nullptr;
    hwy::SetSupportedTargetsForTest(std::max<std::int64_t>(target, 0));
}
ForcedSimdTarget::~ForcedSimdTarget() {
    extra_target = best_extra_target();
    hwy::SetSupportedTargetsForTest(0);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
