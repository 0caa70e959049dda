// The vector operations of dot_kernels-inl.h for AVX-512 with VNNI. A register holds all 16 lanes, so that a
// chunk has one part.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "backend/cpu/dot_chunk.h"

DS4_KERNELS_BEGIN

using Codes = __m512i;  // 64 bytes
using I16 = __m512i;
using I32 = __m512i;
using F32 = __m512;
using LaneMask = __mmask16;

inline constexpr std::size_t kParts = 1;       // registers per 64 bytes
inline constexpr std::size_t kPartLanes = 16;  // lanes of one
// 4 rows and 3 activation rows fill 24 registers with sums.
inline constexpr std::size_t kBlockRows = 4, kBlockActs = 3;
inline constexpr std::size_t kFloatRows = 4, kFloatActs = 3;

// A decoded chunk of one weight row. Symmetric codes are stored with 128 added: vpdpbusd wants them unsigned.
template <bool kAffine>
struct WeightPart {
    Codes code[8];
    F32 scale;
};
template <>
struct WeightPart<true> {
    Codes code[8];
    F32 scale;
    I16 minimum;  // a pair per lane
    F32 minimum_scale;
};

HWY_INLINE Codes load_codes(const void* p, std::size_t) {
    return _mm512_load_si512(p);
}
HWY_INLINE void store_codes(Codes v, void* p, std::size_t) {
    _mm512_store_si512(p, v);
}
HWY_INLINE F32 load_f32(const float* p, std::size_t) {
    return _mm512_load_ps(p);
}
HWY_INLINE void store_f32(F32 v, float* p, std::size_t) {
    _mm512_store_ps(p, v);
}
HWY_INLINE F32 load_f32_bytes(const std::byte* p) {
    return _mm512_loadu_ps(p);
}
HWY_INLINE I16 load_pairs(const std::int16_t (*p)[2], std::size_t) {
    return _mm512_load_si512(p);
}
HWY_INLINE void store_pairs(I16 v, std::int16_t (*p)[2], std::size_t) {
    _mm512_store_si512(p, v);
}
HWY_INLINE I16 load_sums(const ActivationChunk& act, std::size_t) {
    return _mm512_load_si512(act.sum);
}

HWY_INLINE I32 zero_i32() {
    return _mm512_setzero_si512();
}
HWY_INLINE I32 add(I32 a, I32 b) {
    return _mm512_add_epi32(a, b);
}
// a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
HWY_INLINE I32 pair_dot(I16 a, I16 b) {
    return _mm512_madd_epi16(a, b);
}
// What a dot product starts from: takes back what 128 too much in every code adds.
template <bool kSymmetric>
HWY_INLINE I32 start_dot(I16 sums) {
    if constexpr (!kSymmetric) return zero_i32();
    return _mm512_madd_epi16(sums, _mm512_set1_epi16(-128));
}
template <bool kSymmetric>
HWY_INLINE I32 dot_add(I32 sum, Codes w, Codes act) {
    return _mm512_dpbusd_epi32(sum, w, act);
}

HWY_INLINE F32 zero_f32() {
    return _mm512_setzero_ps();
}
HWY_INLINE F32 to_f32(I32 v) {
    return _mm512_cvtepi32_ps(v);
}
HWY_INLINE F32 add(F32 a, F32 b) {
    return _mm512_add_ps(a, b);
}
HWY_INLINE F32 mul(F32 a, F32 b) {
    return _mm512_mul_ps(a, b);
}
// a * b + c
HWY_INLINE F32 mul_add(F32 a, F32 b, F32 c) {
    return _mm512_fmadd_ps(a, b, c);
}
// The first n lanes, all for n beyond their number.
HWY_INLINE LaneMask first_lanes(std::size_t n) {
    return n < kPartLanes ? static_cast<LaneMask>((1u << n) - 1) : LaneMask{0xffff};
}
HWY_INLINE F32 zero_but(F32 v, LaneMask lanes) {
    return _mm512_maskz_mov_ps(lanes, v);
}
// a * b + c in these lanes, c in the others
HWY_INLINE F32 mul_add_lanes(F32 a, F32 b, F32 c, LaneMask lanes) {
    return _mm512_mask3_fmadd_ps(a, b, c, lanes);
}
// c - a * b
HWY_INLINE F32 neg_mul_add(F32 a, F32 b, F32 c) {
    return _mm512_fnmadd_ps(a, b, c);
}

// The sum of the 16 lanes: i and i + 8, i + 4, i + 2, i + 1.
HWY_INLINE float add_tree(const F32 (&v)[1]) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// y[o] = add_tree(v[o]), with every step's additions side by side.
HWY_INLINE void store_trees(const F32 (&v)[4][1], float* y) {
    constexpr int kLower = 0x44, kUpper = 0xee, kEven = 0x88, kOdd = 0xdd;  // quarters of two registers
    const F32 a = v[0][0], b = v[1][0], c = v[2][0], d = v[3][0];
    const F32 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, kLower), _mm512_shuffle_f32x4(a, b, kUpper));
    const F32 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, kLower), _mm512_shuffle_f32x4(c, d, kUpper));
    // A quarter per row from here on.
    const F32 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, kEven), _mm512_shuffle_f32x4(ab, cd, kOdd));
    const F32 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
    const F32 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
    _mm_storeu_ps(y, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one)));
}

DS4_KERNELS_END
