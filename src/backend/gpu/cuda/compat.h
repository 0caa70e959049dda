#pragma once

#include <stdint.h>

// The dialect in CUDA: see dialect.h.

#define DS4_DIALECT cuda
#define DS4_FN __device__ __forceinline__
#define DS4_GLOBAL
#define DS4_SHARED
#define DS4_LOCAL
#define DS4_ARGS const
#define DS4_TABLE __device__ const
#define DS4_UNROLL _Pragma("unroll")
#define DS4_KERNEL(name, Args, Shared) \
    __device__ __forceinline__ void name(Thread t, const Args& a, Shared& s)

namespace ds4::gpu::cuda {

constexpr uint32_t kSimdWidth = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;

struct Thread {
    uint32_t group, group_y;
    uint32_t index, n_threads;
    uint32_t simd, n_simds;
    uint32_t lane;
};

DS4_FN Thread this_thread() {
    return {blockIdx.x,
            blockIdx.y,
            threadIdx.x,
            blockDim.x,
            threadIdx.x / kSimdWidth,
            blockDim.x / kSimdWidth,
            threadIdx.x % kSimdWidth};
}

template <class T, uint32_t n>
struct SharedArray {
    T values[n];
    DS4_FN T& operator[](uint32_t i) { return values[i]; }
};

template <class T>
DS4_FN T smaller(T a, T b) {
    return b < a ? b : a;
}
template <class T>
DS4_FN T larger(T a, T b) {
    return a < b ? b : a;
}

DS4_FN void group_barrier(Thread) {
    __syncthreads();
}
DS4_FN void simd_barrier(Thread) {
    __syncwarp();
}
DS4_FN void device_fence(Thread) {
    __threadfence();
}

template <class T>
DS4_FN T simd_shuffle(Thread, T v, uint32_t lane) {
    return __shfl_sync(kAllLanes, v, static_cast<int>(lane));
}
template <class T>
DS4_FN T simd_shuffle_xor(Thread, T v, uint32_t mask) {
    return __shfl_xor_sync(kAllLanes, v, static_cast<int>(mask));
}
DS4_FN uint32_t simd_ballot(Thread, bool condition) {
    return __ballot_sync(kAllLanes, condition);
}
template <class T>
DS4_FN T simd_sum(Thread t, T v) {
    for (uint32_t mask = kSimdWidth / 2; mask > 0; mask /= 2) v += simd_shuffle_xor(t, v, mask);
    return v;
}
template <class T>
DS4_FN T simd_max(Thread t, T v) {
    for (uint32_t mask = kSimdWidth / 2; mask > 0; mask /= 2) v = larger(v, simd_shuffle_xor(t, v, mask));
    return v;
}
DS4_FN uint32_t simd_max(Thread, uint32_t v) {
    return __reduce_max_sync(kAllLanes, v);
}

DS4_FN uint32_t atomic_add(uint32_t& r, uint32_t v) {
    return atomicAdd(&r, v);
}

DS4_FN int32_t dot4(uint32_t a, uint32_t b, int32_t c) {
    return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
}
DS4_FN uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
    return __byte_perm(a, b, selector);
}

DS4_FN uint32_t load_u16(const uint8_t* p) {
    return *reinterpret_cast<const uint16_t*>(p);
}
DS4_FN uint32_t load_u32(const uint8_t* p) {
    return *reinterpret_cast<const uint32_t*>(p);
}
DS4_FN void store_u32(uint8_t* p, uint32_t v) {
    *reinterpret_cast<uint32_t*>(p) = v;
}

// Through the instruction, not cuda_fp16.h: that header costs more time than all kernels.
DS4_FN float f16_to_f32(uint16_t h) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
// By way of a pair: ptxas 13.0 stores the low byte of what cvt.rn.f16.f32 gives as the number converted to
// u8.
DS4_FN uint16_t f32_to_f16(float x) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(0.0f), "f"(x));
    return static_cast<uint16_t>(pair);
}
DS4_FN float as_float(uint32_t bits) {
    return __uint_as_float(bits);
}
DS4_FN uint32_t as_uint(float x) {
    return __float_as_uint(x);
}
DS4_FN uint32_t popcount(uint32_t bits) {
    return static_cast<uint32_t>(__popc(bits));
}

}  // namespace ds4::gpu::cuda
