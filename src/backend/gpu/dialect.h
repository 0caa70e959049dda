#pragma once

// The dialect of the GPU kernels (design.md, idea 2). A kernel body in kernels/*.h is plain C++ that CUDA,
// HIP and the Metal Shading Language accept: no standard library, no virtuals, no recursion, no doubles, no
// exceptions. What differs between devices is defined by the compat.h that is included here:
//
//   DS4_DIALECT         name of the namespace that bodies live in: ds4::gpu::cuda, ds4::gpu::emulated
//   DS4_FN              before every helper function
//   DS4_KERNEL(name, Args, Shared)   heads a body: a function of (Thread t, Args a, Shared s)
//   DS4_GLOBAL, DS4_SHARED, DS4_LOCAL   address spaces (`device`, `threadgroup`, `thread` in Metal) of
//   pointers and
//                       references; write them wherever a pointer or a reference is declared
//   DS4_ARGS            before the type of a reference to a kernel's arguments (`const constant` in Metal)
//   DS4_TABLE           before a constant table at namespace scope
//   DS4_UNROLL          before a loop that is to be unrolled, so that small local arrays stay in registers
//   SharedArray<T, n>   an array in threadgroup memory; a kernel's Shared is a struct of them, allocated by
//   the entry
//                       (Metal wants it there). Its contents are arbitrary at first: the emulated device
//                       fills it with NaN and checks every index
//   Thread              where a thread stands: group, group_y (index of its thread group), index (in the
//   group),
//                       n_threads, simd and n_simds (SIMD-groups of the group), lane (0 .. kSimdWidth - 1)
//   group_barrier(t)    every thread of the group, in uniform control flow; orders shared and global memory
//   simd_barrier(t)     every lane of the SIMD-group
//   device_fence(t)     orders what this thread has seen and written in device memory for other groups
//   simd_shuffle(t, v, lane), simd_shuffle_xor(t, v, mask), simd_ballot(t, condition)
//   simd_sum(t, v), simd_max(t, v)   in butterfly order (16, 8, 4, 2, 1): the same bits in every lane, on
//   every device atomic_add(r, v)    on an integer in shared memory, returns the old value dot4(a, b, c) c +
//   the four products of the signed bytes of a and b permute_bytes(a, b, selector)   byte i is byte (selector
//   >> 4i & 7) of b:a f16_to_f32, f32_to_f16 (to nearest, even), as_float, as_uint, popcount exp, log1p, sin,
//   cos, sqrt, fma, fabs, and smaller, larger (of numbers; not for NaN)
//
// Nothing is contracted into fused multiply-adds but what says fma (the compilers are told so), so a body
// gives the same bits wherever the library functions do. Kernel arguments are the PODs of args.h.
#if defined(__CUDACC__)
#include "backend/gpu/cuda/compat.h"
#else
#include "backend/gpu/emulated/compat.h"
#endif

namespace ds4::gpu::DS4_DIALECT {

constexpr uint32_t kMaxSimds = 32;  // of a thread group

struct NoShared {};

// Room for one value per SIMD-group.
struct GroupScratch {
    SharedArray<float, kMaxSimds> partial;
};

// The sum of v over the thread group, in an order that depends on the group's size alone; the same bits in
// every thread. A barrier before and one after the sum.
DS4_FN float group_sum(Thread t, float v, DS4_SHARED GroupScratch& s) {
    v = simd_sum(t, v);
    if (t.lane == 0) s.partial[t.simd] = v;
    group_barrier(t);
    float total = 0;
    for (uint32_t i = 0; i < t.n_simds; ++i) total += s.partial[i];
    group_barrier(t);
    return total;
}

}  // namespace ds4::gpu::DS4_DIALECT
