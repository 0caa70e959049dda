#pragma once

#include <stdint.h>

// Names for the instructions that the matrix families need and CUDA C++ has no function for.
namespace ds4::gpu::cuda {

#define DS4_DEVICE __device__ __forceinline__

// ---- dependent launch: a no-op before sm_90. A kernel that releases its dependents after its own wait lets
// them read before theirs what was written two kernels ago. One whose dependents read nothing then but
// weights may release them before its wait: they fill their shared memory while this one waits.

DS4_DEVICE void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DS4_DEVICE void release_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- matrix units. Lane = 4g + q holds, of A (16 x k): row g | row g+8, then the second half of k the same;
// of B: column g; of C (16 x 8): row g columns 2q, 2q+1 | row g+8 the same.

// c = a b, 16 x 8 x 32 signed bytes, exact.
DS4_DEVICE void mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

// c += a b, 16 x 8 x 16 halves, f32 sums.
DS4_DEVICE void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- halves

DS4_DEVICE float low_half(uint32_t pair) {
    float x;
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(x) : "r"(pair));
    return x;
}
DS4_DEVICE float high_half(uint32_t pair) {
    float x;
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h;}" : "=f"(x) : "r"(pair));
    return x;
}
DS4_DEVICE uint32_t pack_halves(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
DS4_DEVICE uint32_t add_halves(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("add.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}

// An f32 as two halves: x = high + low * 2^-11, to 22 bits.
constexpr float kLowHalf = 0x1p-11f;
struct SplitPair {
    uint32_t high, low;
};
DS4_DEVICE SplitPair split_pair(float x0, float x1) {
    const uint32_t high = pack_halves(x0, x1);
    return {high, pack_halves((x0 - low_half(high)) * 2048.0f, (x1 - high_half(high)) * 2048.0f)};
}

// ---- asynchronous copies

DS4_DEVICE uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

DS4_DEVICE void barrier_init(uint64_t* barrier) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}
// Orders what this thread did to shared memory before what the copy engine does to it afterwards: barriers
// initialised, slots read. (A load whose value nobody has used yet may still be under way without it.)
DS4_DEVICE void copy_engine_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DS4_DEVICE void barrier_expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
DS4_DEVICE void barrier_wait(uint64_t* barrier, uint32_t phase) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "wait:\n"
        "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra wait;\n"
        "}\n" ::"r"(shared_address(barrier)),
        "r"(phase)
        : "memory");
}

// Weights pass through the L2 once: they are the first to go.
DS4_DEVICE uint64_t streaming_policy() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// `bytes` and both addresses are multiples of 16. Completes on the barrier.
DS4_DEVICE void bulk_copy(void* to, const void* from, uint32_t bytes, uint64_t* barrier, uint64_t policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
        "[%3], %4;" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
}

DS4_DEVICE void async_copy16(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
DS4_DEVICE void async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int n>
DS4_DEVICE void async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

// ---- barrier of some warps of a block; id 1 .. 15

DS4_DEVICE void named_barrier(uint32_t id, uint32_t n_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}
// Comes to it and goes on.
DS4_DEVICE void named_arrive(uint32_t id, uint32_t n_threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

// Byte i of the result is byte (select >> 4i & 7) of b:a; bit 3 of each must be 0.
DS4_DEVICE uint32_t permute(uint32_t a, uint32_t b, uint32_t select) {
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(select));
    return r;
}

// f(Index<0>{}), f(Index<1>{}), ..., f(Index<n - 1>{}): a loop whose counter is a constant.
template <uint32_t i>
struct Index {
    static constexpr uint32_t value = i;
};
template <uint32_t n, uint32_t i = 0, class F>
DS4_DEVICE void unrolled(const F& f) {
    if constexpr (i < n) {
        f(Index<i>{});
        unrolled<n, i + 1>(f);
    }
}

template <class T>
DS4_DEVICE T load(const void* p) {
    return *static_cast<const T*>(p);
}

}  // namespace ds4::gpu::cuda
