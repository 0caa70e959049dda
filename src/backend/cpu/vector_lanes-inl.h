// Loads and stores of f32 vectors that may be cut short by the end of a row. Included once per Highway
// target.
#if defined(DS4_VECTOR_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_VECTOR_LANES_INL_H
#undef DS4_VECTOR_LANES_INL_H
#else
#define DS4_VECTOR_LANES_INL_H
#endif

#include <cstddef>
#include <cstring>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
inline constexpr std::size_t kLanes = hn::MaxLanes(DF());

HWY_INLINE VF load(const float* p) {
    return hn::LoadU(DF(), p);
}

// The first `count` values at p, then zeroes; nothing behind them is read.
HWY_INLINE VF load_part(const float* p, std::size_t count) {
    HWY_ALIGN float part[kLanes] = {};
    std::memcpy(part, p, count * sizeof(float));
    return hn::Load(DF(), part);
}

HWY_INLINE VF load(const float* p, std::size_t count) {
    return count >= kLanes ? load(p) : load_part(p, count);
}

HWY_INLINE void store(VF v, float* p, std::size_t count) {
    if (count >= kLanes) {
        hn::StoreU(v, DF(), p);
        return;
    }
    HWY_ALIGN float part[kLanes];
    hn::Store(v, DF(), part);
    std::memcpy(p, part, count * sizeof(float));
}

HWY_INLINE float sum_lanes(VF v) {
    return hn::GetLane(hn::SumOfLanes(DF(), v));
}

// e^v for v <= 88; NaN stays NaN, so that a broken row does not pass for a sound one.
HWY_INLINE VF exp(VF v) {
    return hn::IfThenElse(hn::Eq(v, v), hn::Exp(DF(), v), v);
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
