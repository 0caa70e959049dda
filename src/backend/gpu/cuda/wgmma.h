#pragma once

#include "backend/gpu/cuda/ptx.h"

// The matrix unit of sm_90a: a warpgroup's product of 64 rows of A from registers and n columns of B from
// shared memory. Runs beside its warps: between issue and wait its registers are not to be touched.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DS4_WGMMA 1
#endif

namespace ds4::gpu::cuda {

#if defined(DS4_WGMMA)

DS4_DEVICE void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DS4_DEVICE void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int n>
DS4_DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

// Nothing that reads c moves before the wait.
template <uint32_t n>
DS4_DEVICE void wgmma_hold(float (&c)[n][4]) {
#pragma unroll
    for (uint32_t i = 0; i < n; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) asm volatile("" : "+f"(c[i][j])::"memory");
    }
}

// A warpgroup's registers a thread, from what the launch gave it: fewer, or more once others gave theirs.
template <int n>
DS4_DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n>
DS4_DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

// Columns of 64 halves in rows of 128 bytes, 16-byte pieces exchanged by row % 8; from a multiple of 1024
// bytes.
DS4_DEVICE uint64_t wgmma_columns(const void* shared) {
    constexpr uint64_t kSwizzled128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 / 16} << 32;
    return kSwizzled128 | kEightRows | uint64_t{1} << 16 | (shared_address(shared) & 0x3ffffu) >> 4;
}

#define DS4_ACC4(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])

// c += a b: 64 x n x 16 halves. c[i] as of the 16 x 8 products, for columns 8i .. 8i + 7. columns:
// wgmma_columns, plus 2 for every 16 inputs.
DS4_DEVICE void wgmma_f16(float (&c)[4][4], const uint32_t (&a)[4], uint64_t columns) {
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
        "{%16,%17,%18,%19}, %20, p, 1, 1, 0;}"
        : DS4_ACC4(0), DS4_ACC4(1), DS4_ACC4(2), DS4_ACC4(3)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(columns));
}
DS4_DEVICE void wgmma_f16(float (&c)[6][4], const uint32_t (&a)[4], uint64_t columns) {
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23}, "
        "{%24,%25,%26,%27}, %28, p, 1, 1, 0;}"
        : DS4_ACC4(0), DS4_ACC4(1), DS4_ACC4(2), DS4_ACC4(3), DS4_ACC4(4), DS4_ACC4(5)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(columns));
}
DS4_DEVICE void wgmma_f16(float (&c)[8][4], const uint32_t (&a)[4], uint64_t columns) {
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
        "{%32,%33,%34,%35}, %36, p, 1, 1, 0;}"
        : DS4_ACC4(0), DS4_ACC4(1), DS4_ACC4(2), DS4_ACC4(3), DS4_ACC4(4), DS4_ACC4(5), DS4_ACC4(6),
          DS4_ACC4(7)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(columns));
}
DS4_DEVICE void wgmma_f16(float (&c)[12][4], const uint32_t (&a)[4], uint64_t columns) {
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}, "
        "{%48,%49,%50,%51}, %52, p, 1, 1, 0;}"
        : DS4_ACC4(0), DS4_ACC4(1), DS4_ACC4(2), DS4_ACC4(3), DS4_ACC4(4), DS4_ACC4(5), DS4_ACC4(6),
          DS4_ACC4(7), DS4_ACC4(8), DS4_ACC4(9), DS4_ACC4(10), DS4_ACC4(11)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(columns));
}
DS4_DEVICE void wgmma_f16(float (&c)[16][4], const uint32_t (&a)[4], uint64_t columns) {
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
        "{%64,%65,%66,%67}, %68, p, 1, 1, 0;}"
        : DS4_ACC4(0), DS4_ACC4(1), DS4_ACC4(2), DS4_ACC4(3), DS4_ACC4(4), DS4_ACC4(5), DS4_ACC4(6),
          DS4_ACC4(7), DS4_ACC4(8), DS4_ACC4(9), DS4_ACC4(10), DS4_ACC4(11), DS4_ACC4(12), DS4_ACC4(13),
          DS4_ACC4(14), DS4_ACC4(15)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(columns));
}

#undef DS4_ACC4

#endif

}  // namespace ds4::gpu::cuda
