#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "backend/gpu/emulated/thread_group.h"
#include "quant/float_bits.h"

// The dialect on the host: see dialect.h. Threads are fibres of thread_group.h.

#define DS4_DIALECT emulated
#define DS4_FN inline
#define DS4_GLOBAL
#define DS4_SHARED
#define DS4_LOCAL
#define DS4_ARGS const
#define DS4_TABLE inline constexpr
#define DS4_UNROLL
#define DS4_KERNEL(name, Args, Shared) \
    inline void name([[maybe_unused]] Thread t, const Args& a, [[maybe_unused]] Shared& s)

namespace ds4::gpu::emulated {

using std::cos;
using std::exp;
using std::fabs;
using std::fma;
using std::log1p;
using std::sin;
using std::sqrt;

template <class T, std::uint32_t n>
class SharedArray {
  public:
    T& operator[](std::uint32_t i) {
        if (i >= n) throw_out_of_bounds(i, n);
        return values_[i];
    }

  private:
    T values_[n];
};

template <class T>
T smaller(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T larger(T a, T b) {
    return a < b ? b : a;
}

inline void group_barrier(const Thread& t, Site site = Site::current()) {
    t.in_group->group_barrier(t, site);
}
inline void simd_barrier(const Thread& t, Site site = Site::current()) {
    t.in_group->exchange(t, 0, site);
}
inline void device_fence(const Thread&) {}  // groups run one after the other

// v is any type of four bytes.
template <class T>
T simd_shuffle(const Thread& t, T v, std::uint32_t lane, Site site = Site::current()) {
    return std::bit_cast<T>(
        t.in_group->exchange(t, std::bit_cast<std::uint32_t>(v), site)[lane % kSimdWidth]);
}
template <class T>
T simd_shuffle_xor(const Thread& t, T v, std::uint32_t mask, Site site = Site::current()) {
    return simd_shuffle(t, v, t.lane ^ mask, site);
}
inline std::uint32_t simd_ballot(const Thread& t, bool condition, Site site = Site::current()) {
    const std::uint32_t* all = t.in_group->exchange(t, condition ? 1 : 0, site);
    std::uint32_t bits = 0;
    for (std::uint32_t i = 0; i < kSimdWidth; ++i) bits |= all[i] << i;
    return bits;
}

// What the butterfly of shuffles gives, with one exchange instead of five.
template <class T, class Combine>
T butterfly(const Thread& t, T v, Combine combine, Site site) {
    const std::uint32_t* all = t.in_group->exchange(t, std::bit_cast<std::uint32_t>(v), site);
    T values[kSimdWidth];
    for (std::uint32_t i = 0; i < kSimdWidth; ++i) values[i] = std::bit_cast<T>(all[i]);
    for (std::uint32_t half = kSimdWidth / 2; half > 0; half /= 2) {
        for (std::uint32_t i = 0; i < half; ++i) values[i] = combine(values[i], values[i + half]);
    }
    return values[0];
}
template <class T>
T simd_sum(const Thread& t, T v, Site site = Site::current()) {
    return butterfly(
        t, v, [](T a, T b) { return a + b; }, site);
}
template <class T>
T simd_max(const Thread& t, T v, Site site = Site::current()) {
    return butterfly(t, v, larger<T>, site);
}

inline std::uint32_t atomic_add(std::uint32_t& r, std::uint32_t v) {
    return std::exchange(r, r + v);
}

inline std::int32_t dot4(std::uint32_t a, std::uint32_t b, std::int32_t c) {
    for (unsigned i = 0; i < 32; i += 8)
        c += static_cast<std::int8_t>(a >> i) * static_cast<std::int8_t>(b >> i);
    return c;
}
inline std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    std::uint32_t out = 0;
    for (unsigned i = 0; i < 4; ++i) {
        out |= static_cast<std::uint32_t>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    }
    return out;
}

// A GPU faults where the host would not.
template <class T>
std::uint32_t load_aligned(const std::uint8_t* p) {
    if (reinterpret_cast<std::uintptr_t>(p) % sizeof(T) != 0) throw_misaligned(sizeof(T));
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline std::uint32_t load_u16(const std::uint8_t* p) {
    return load_aligned<std::uint16_t>(p);
}
inline std::uint32_t load_u32(const std::uint8_t* p) {
    return load_aligned<std::uint32_t>(p);
}
inline void store_u32(std::uint8_t* p, std::uint32_t v) {
    if (reinterpret_cast<std::uintptr_t>(p) % sizeof v != 0) throw_misaligned(sizeof v);
    std::memcpy(p, &v, sizeof v);
}

inline float f16_to_f32(std::uint16_t h) {
    return quant::f16_to_f32(h);
}
inline std::uint16_t f32_to_f16(float x) {
    return quant::f32_to_f16(x);
}
inline float as_float(std::uint32_t bits) {
    return std::bit_cast<float>(bits);
}
inline std::uint32_t as_uint(float x) {
    return std::bit_cast<std::uint32_t>(x);
}
inline std::uint32_t popcount(std::uint32_t bits) {
    return static_cast<std::uint32_t>(std::popcount(bits));
}

}  // namespace ds4::gpu::emulated
