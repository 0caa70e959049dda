// The vector operations of dot_kernels-inl.h for Highway's targets: 64 bytes are one register of AVX-512, two
// of AVX2, four of SSE or NEON. A part is what one of them holds.
#if defined(DS4_DOT_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_LANES_INL_H
#undef DS4_DOT_LANES_INL_H
#else
#define DS4_DOT_LANES_INL_H
#endif

#include <cstddef>
#include <cstdint>

#include "backend/cpu/dot_chunk.h"
#include "hwy/highway.h"

DS4_KERNELS_BEGIN
namespace hn = hwy::HWY_NAMESPACE;

using D8 = hn::CappedTag<std::int8_t, kRegister>;
using DU8 = hn::RebindToUnsigned<D8>;
using D16 = hn::Repartition<std::int16_t, D8>;
using D32 = hn::Repartition<std::int32_t, D8>;
using DF = hn::RebindToFloat<D32>;

using Codes = hn::Vec<D8>;
using I16 = hn::Vec<D16>;
using I32 = hn::Vec<D32>;
using F32 = hn::Vec<DF>;
using LaneMask = hn::Mask<DF>;

inline constexpr std::size_t kPartBytes = hn::MaxLanes(D8());
inline constexpr std::size_t kParts = kRegister / kPartBytes;  // registers per 64 bytes
inline constexpr std::size_t kPartLanes = kLanes / kParts;     // lanes of one
// Dots of a block, its weights and an activation fit into 16 registers, or 32.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
inline constexpr std::size_t kBlockRows = 4, kBlockActs = 3;
#else
inline constexpr std::size_t kBlockRows = 4, kBlockActs = 2;
#endif
inline constexpr std::size_t kFloatRows = kParts == 1 ? 4 : 1, kFloatActs = kParts == 4 ? 2 : 3;

// A decoded part of a chunk of one weight row. Codes are signed.
template <bool kAffine>
struct WeightPart {
    HWY_INLINE WeightPart() {}  // NOLINT(modernize-use-equals-default): an implicit one has no target

    Codes code[8];
    F32 scale;
};
template <>
struct WeightPart<true> {
    HWY_INLINE WeightPart() {}  // NOLINT(modernize-use-equals-default)

    Codes code[8];
    F32 scale;
    I16 minimum;  // a pair per lane
    F32 minimum_scale;
};

// ---- Part p of 64 bytes

HWY_INLINE Codes load_codes(const void* bytes, std::size_t p) {
    return hn::LoadU(D8(), static_cast<const std::int8_t*>(bytes) + p * kPartBytes);
}
HWY_INLINE void store_codes(Codes v, void* bytes, std::size_t p) {
    hn::StoreU(v, D8(), static_cast<std::int8_t*>(bytes) + p * kPartBytes);
}
HWY_INLINE F32 load_f32(const float* values, std::size_t p) {
    return hn::LoadU(DF(), values + p * kPartLanes);
}
HWY_INLINE void store_f32(F32 v, float* values, std::size_t p) {
    hn::StoreU(v, DF(), values + p * kPartLanes);
}
HWY_INLINE I16 load_pairs(const std::int16_t (*pairs)[2], std::size_t p) {
    return hn::LoadU(D16(), pairs[0] + p * 2 * kPartLanes);
}
HWY_INLINE void store_pairs(I16 v, std::int16_t (*pairs)[2], std::size_t p) {
    hn::StoreU(v, D16(), pairs[0] + p * 2 * kPartLanes);
}
HWY_INLINE I16 load_sums(const ActivationChunk& act, std::size_t p) {
    return load_pairs(act.sum, p);
}
// From any address.
HWY_INLINE F32 load_f32_bytes(const std::byte* p) {
    return hn::BitCast(DF(), hn::LoadU(DU8(), reinterpret_cast<const std::uint8_t*>(p)));
}

// ---- Integers

HWY_INLINE I32 zero_i32() {
    return hn::Zero(D32());
}
HWY_INLINE I32 add(I32 a, I32 b) {
    return hn::Add(a, b);
}

// a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
HWY_INLINE I32 pair_dot(I16 a, I16 b) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    return I32{_mm512_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_AVX2
    return I32{_mm256_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
    return I32{_mm_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_NEON
    const int32x4_t low = vmull_s16(vget_low_s16(a.raw), vget_low_s16(b.raw));
    const int32x4_t high = vmull_s16(vget_high_s16(a.raw), vget_high_s16(b.raw));
    return I32{vpaddq_s32(low, high)};
#endif
}

// Products of bytes, neighbours added: w[2i] * act[2i] + w[2i + 1] * act[2i + 1] with |w| <= 128, |act| <=
// 127, so that they fit 16 bits. Without kSymmetric w is not negative.
template <bool kSymmetric>
HWY_INLINE I16 byte_pair_dot(Codes w, Codes act) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    if constexpr (!kSymmetric) return I16{_mm512_maddubs_epi16(w.raw, act.raw)};
    const __m512i turned =
        _mm512_mask_sub_epi8(act.raw, _mm512_movepi8_mask(w.raw), _mm512_setzero_si512(), act.raw);
    return I16{_mm512_maddubs_epi16(_mm512_abs_epi8(w.raw), turned)};
#elif HWY_TARGET == HWY_AVX2
    if constexpr (!kSymmetric) return I16{_mm256_maddubs_epi16(w.raw, act.raw)};
    return I16{_mm256_maddubs_epi16(_mm256_abs_epi8(w.raw), _mm256_sign_epi8(act.raw, w.raw))};
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
    if constexpr (!kSymmetric) return I16{_mm_maddubs_epi16(w.raw, act.raw)};
    return I16{_mm_maddubs_epi16(_mm_abs_epi8(w.raw), _mm_sign_epi8(act.raw, w.raw))};
#elif HWY_TARGET == HWY_NEON
    const int16x8_t low = vmull_s8(vget_low_s8(w.raw), vget_low_s8(act.raw));
    const int16x8_t high = vmull_s8(vget_high_s8(w.raw), vget_high_s8(act.raw));
    return I16{vpaddq_s16(low, high)};
#endif
}

// What a dot product starts from.
template <bool kSymmetric>
HWY_INLINE I32 start_dot([[maybe_unused]] I16 sums) {
#if defined(DS4_HAS_AVX_VNNI)
    // Takes back the 128 that dot_add adds to every code.
    if constexpr (kSymmetric) return pair_dot(sums, hn::Set(D16(), std::int16_t{-128}));
#endif
    return zero_i32();
}
// sum + the products of four neighbouring bytes per lane.
template <bool kSymmetric>
HWY_INLINE I32 dot_add(I32 sum, Codes w, Codes act) {
#if defined(DS4_HAS_SDOT)
    return I32{vdotq_s32(sum.raw, w.raw, act.raw)};
#elif defined(DS4_HAS_AVX_VNNI)
    // vpdpbusd wants codes without a sign. The same code meets several activations: one turning for all.
    const Codes code = kSymmetric ? hn::Xor(w, hn::Set(D8(), std::int8_t{-128})) : w;
    return I32{_mm256_dpbusd_avx_epi32(sum.raw, code.raw, act.raw)};
#else
    return add(sum, pair_dot(byte_pair_dot<kSymmetric>(w, act), hn::Set(D16(), std::int16_t{1})));
#endif
}

// ---- Floats

HWY_INLINE F32 zero_f32() {
    return hn::Zero(DF());
}
HWY_INLINE F32 to_f32(I32 v) {
    return hn::ConvertTo(DF(), v);
}
HWY_INLINE F32 add(F32 a, F32 b) {
    return hn::Add(a, b);
}
HWY_INLINE F32 mul(F32 a, F32 b) {
    return hn::Mul(a, b);
}
// a * b + c
HWY_INLINE F32 mul_add(F32 a, F32 b, F32 c) {
    return hn::MulAdd(a, b, c);
}
// The first n lanes, all for n beyond their number.
HWY_INLINE LaneMask first_lanes(std::size_t n) {
    return hn::FirstN(DF(), n);
}
HWY_INLINE F32 zero_but(F32 v, LaneMask lanes) {
    return hn::IfThenElseZero(lanes, v);
}
// a * b + c in these lanes, c in the others
HWY_INLINE F32 mul_add_lanes(F32 a, F32 b, F32 c, LaneMask lanes) {
    return hn::IfThenElse(lanes, hn::MulAdd(a, b, c), c);
}
// c - a * b
HWY_INLINE F32 neg_mul_add(F32 a, F32 b, F32 c) {
    return hn::NegMulAdd(a, b, c);
}

HWY_INLINE float add_four(hn::Vec<hn::CappedTag<float, 4>> v) {
    const auto two = hn::Add(v, hn::Shuffle1032(v));
    return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

// The sum of the 16 lanes: i and i + 8, i + 4, i + 2, i + 1.
template <std::size_t kRegisters>  // kParts, as a parameter so that what does not fit is not compiled
HWY_INLINE float add_tree(const F32 (&v)[kRegisters]) {
    const hn::CappedTag<float, 4> d4;
    if constexpr (kRegisters == 1) {
        const hn::Half<DF> d8;
        const auto eight = hn::Add(hn::LowerHalf(d8, v[0]), hn::UpperHalf(d8, v[0]));
        return add_four(hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight)));
    } else if constexpr (kRegisters == 2) {
        const auto eight = hn::Add(v[0], v[1]);
        return add_four(hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight)));
    } else {
        return add_four(hn::Add(hn::Add(v[0], v[2]), hn::Add(v[1], v[3])));
    }
}

// y[o] = add_tree(v[o])
HWY_INLINE void store_trees(const F32 (&v)[kBlockRows][kParts], float* y) {
    for (std::size_t o = 0; o < kBlockRows; ++o) y[o] = add_tree(v[o]);
}

DS4_KERNELS_END

#endif  // per-target include guard
