#include "backend/cpu/rounding_kernel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "backend/cpu/simd_config.h"
#include "quant/float_bits.h"
#include "quant/rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rounding_kernel.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

using DI = hn::RebindToSigned<DF>;
using VI = hn::Vec<DI>;

// A small float format, see quant/rounding.cpp.
struct Fp8 {
    static constexpr std::size_t kBlock = quant::kFp8Block;
    static constexpr int kMantissaBits = 3, kMinExponent = -6;
    static constexpr float kMax = quant::kFp8Max, kFloor = quant::kFp8Floor;
};
struct Fp4 {
    static constexpr std::size_t kBlock = quant::kFp4Block;
    static constexpr int kMantissaBits = 1, kMinExponent = 0;
    static constexpr float kMax = quant::kFp4Max, kFloor = quant::kFp4Floor;
};

HWY_INLINE VI bits_of(VF v) {
    return hn::BitCast(DI(), v);
}

// v to the nearest value of the grid, ties to the even mantissa; the sign of v is kept.
template <class Grid>
HWY_INLINE VF round_to_grid(VF v) {
    const VI min_normal = hn::Set(DI(), (127 + Grid::kMinExponent) << 23);
    const VI steps = hn::Set(DI(), (23 - Grid::kMantissaBits) << 23);
    const VF magnitude = hn::Min(hn::Abs(v), hn::Set(DF(), Grid::kMax));
    const VI power = hn::Max(hn::And(bits_of(magnitude), hn::Set(DI(), 0x7f800000)), min_normal);
    const VF shift = hn::BitCast(DF(), hn::Add(power, steps));
    return hn::CopySignToAbs(hn::Sub(hn::Add(magnitude, shift), shift), v);
}

template <class Grid>
HWY_INLINE void round_block(float* x) {
    VI top = hn::Zero(DI());  // magnitudes order like their bits, NaN and infinity on top
    for (std::size_t i = 0; i < Grid::kBlock; i += kLanes) {
        top = hn::Max(top, hn::And(bits_of(load(x + i)), hn::Set(DI(), 0x7fffffff)));
    }
    const auto max_bits = static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(DI(), top)));
    if (max_bits >= quant::kF32ExponentMask) {
        std::fill_n(x, Grid::kBlock, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    const float amax = std::max(std::bit_cast<float>(max_bits), Grid::kFloor);
    const float scale = quant::e8m0_to_f32(quant::scale_exponent(amax, Grid::kMax));
    const VF factor = hn::Set(DF(), scale);
    const VF inverse = hn::Set(DF(), 1.0F / scale);  // exact
    for (std::size_t i = 0; i < Grid::kBlock; i += kLanes) {
        const VF rounded = round_to_grid<Grid>(hn::Mul(load(x + i), inverse));
        hn::StoreU(hn::Mul(rounded, factor), DF(), x + i);
    }
}

void RoundFp8(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += Fp8::kBlock) round_block<Fp8>(x + i);
}

// One stage of the transform within a vector: lanes kStride apart become their sum and their difference.
// Longer strides are left to whole vectors.
template <std::size_t kStride>
HWY_INLINE VF butterfly(VF v) {
#if HWY_TARGET != HWY_SCALAR
    if constexpr (kStride < kLanes) {
        const DF d;
        VF other = v;
        if constexpr (kStride == 1) other = hn::Shuffle2301(v);
        if constexpr (kStride == 2) other = hn::Shuffle1032(v);
        if constexpr (kStride == 4) other = hn::SwapAdjacentBlocks(v);
        if constexpr (kStride == 8) other = hn::ConcatLowerUpper(d, v, v);
        const VI lane = hn::Iota(DI(), 0);
        const VI is_second = hn::And(lane, hn::Set(DI(), static_cast<std::int32_t>(kStride)));
        const VI sign = hn::ShiftLeft<31 - std::countr_zero(kStride)>(is_second);
        return hn::Add(other, hn::BitCast(d, hn::Xor(bits_of(v), sign)));
    }
#endif
    return v;
}

void RoundHadamardFp4(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += kLanes) {
        const VF v = butterfly<2>(butterfly<1>(load(x + i)));
        hn::StoreU(butterfly<8>(butterfly<4>(v)), DF(), x + i);
    }
    for (std::size_t stride = kLanes; stride < n; stride *= 2) {
        for (std::size_t pair = 0; pair < n; pair += 2 * stride) {
            for (std::size_t i = pair; i < pair + stride; i += kLanes) {
                const VF a = load(x + i);
                const VF b = load(x + i + stride);
                hn::StoreU(hn::Add(a, b), DF(), x + i);
                hn::StoreU(hn::Sub(a, b), DF(), x + i + stride);
            }
        }
    }
    const VF scale = hn::Set(DF(), static_cast<float>(1.0 / std::sqrt(static_cast<double>(n))));
    for (std::size_t i = 0; i < n; i += kLanes) hn::StoreU(hn::Mul(load(x + i), scale), DF(), x + i);
    for (std::size_t i = 0; i < n; i += Fp4::kBlock) round_block<Fp4>(x + i);
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(RoundFp8);
HWY_EXPORT(RoundHadamardFp4);

void round_fp8(float* x, std::size_t n) {
    HWY_DYNAMIC_DISPATCH(RoundFp8)(x, n);
}

void round_hadamard_fp4(float* x, std::size_t n) {
    HWY_DYNAMIC_DISPATCH(RoundHadamardFp4)(x, n);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
