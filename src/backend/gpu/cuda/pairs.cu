#include <algorithm>

#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/ptx.h"

// What stands around the products of prefill: halves of x, pairs by expert, the sum over the slots.
namespace ds4::gpu::cuda {
namespace {

constexpr uint32_t kThreads = 256;

// A thread writes eight halves: a row of one fragment, inputs 2 halves apart by 8.
__global__ void __launch_bounds__(kThreads) halves_kernel(const __grid_constant__ HalvesArgs a) {
    wait_for_predecessor();
    release_dependents();
    const uint64_t n = static_cast<uint64_t>(a.n) * a.n_in / 8;
    for (uint64_t i = blockIdx.x * static_cast<uint64_t>(kThreads) + threadIdx.x; i < n;
         i += static_cast<uint64_t>(gridDim.x) * kThreads) {
        const auto piece = static_cast<uint32_t>(i % 4);
        const float* from = a.x + i / 4 * 32 + piece / 2 * 4 + piece % 2 * 2;
        SplitPair v[4];
#pragma unroll
        for (uint32_t q = 0; q < 4; ++q) {
            const float2 x = __ldcg(reinterpret_cast<const float2*>(from + 8 * q));
            v[q] = split_pair(x.x, x.y);
        }
        reinterpret_cast<uint4*>(a.high)[i] = {v[0].high, v[1].high, v[2].high, v[3].high};
        if (a.low != nullptr) reinterpret_cast<uint4*>(a.low)[i] = {v[0].low, v[1].low, v[2].low, v[3].low};
    }
}

// A block per expert, its warps take consecutive parts of the pairs: how many belong to experts before this
// one, and to this one in earlier parts; then its own in order.
__global__ void __launch_bounds__(kThreads) sort_kernel(const __grid_constant__ SortArgs a) {
    constexpr uint32_t kWarps = kThreads / 32;
    __shared__ uint32_t lower[kWarps], own[kWarps];
    wait_for_predecessor();
    release_dependents();
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, expert = blockIdx.x;
    const uint32_t part = tiles::divide_up(tiles::divide_up(a.n_pairs, 32), kWarps) * 32;
    const uint32_t begin = warp * part, end = min(begin + part, a.n_pairs);
    uint32_t n_lower = 0, n_own = 0;
#pragma unroll 8
    for (uint32_t i = begin + lane; i < end; i += 32) {
        const auto e = static_cast<uint32_t>(a.expert[i]);
        n_lower += e < expert ? 1 : 0;
        n_own += e == expert ? 1 : 0;
    }
    n_lower = __reduce_add_sync(0xffffffffu, n_lower);
    n_own = __reduce_add_sync(0xffffffffu, n_own);
    if (lane == 0) lower[warp] = n_lower, own[warp] = n_own;
    __syncthreads();
    uint32_t before = 0, at = 0;
    for (uint32_t w = 0; w < kWarps; ++w) {
        before += lower[w];
        at += w < warp ? own[w] : 0;
    }
    if (threadIdx.x == 0) a.first[expert] = static_cast<int32_t>(before);
    at += before;
    if (n_own == 0 || expert == a.n_experts) return;
#pragma unroll 8
    for (uint32_t first = begin; first < end; first += 32) {
        const uint32_t i = first + lane;
        const bool is_own = i < end && static_cast<uint32_t>(a.expert[i]) == expert;
        const uint32_t owners = __ballot_sync(0xffffffffu, is_own);
        if (is_own) a.pair[at + __popc(owners & ((1u << lane) - 1))] = static_cast<int32_t>(i);
        at += __popc(owners);
    }
}

__global__ void __launch_bounds__(kThreads) combine_kernel(const __grid_constant__ CombineArgs a) {
    wait_for_predecessor();
    release_dependents();
    const uint32_t quads = a.width / 4;
    const uint64_t n = static_cast<uint64_t>(a.n) * quads;
    for (uint64_t i = blockIdx.x * static_cast<uint64_t>(kThreads) + threadIdx.x; i < n;
         i += static_cast<uint64_t>(gridDim.x) * kThreads) {
        const uint64_t row = i / quads;
        const auto* slots = reinterpret_cast<const float4*>(a.slots) + row * a.n_used * quads + i % quads;
        float4 sum = __ldcs(slots);
        for (uint32_t k = 1; k <= a.n_used; ++k) {
            if (k == a.n_used && a.shared == nullptr) break;
            const float4 v = k < a.n_used ? __ldcs(slots + static_cast<uint64_t>(k) * quads)
                                          : __ldcs(reinterpret_cast<const float4*>(a.shared) + i);
            sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        reinterpret_cast<float4*>(a.y)[i] = sum;
    }
}

uint32_t blocks_for(uint64_t n) {
    return static_cast<uint32_t>(
        std::min<uint64_t>((n + kThreads - 1) / kThreads, device_shape().multiprocessors * 8));
}

}  // namespace

cudaError_t launch_halves(const HalvesArgs& a, cudaStream_t stream) {
    return launch(halves_kernel, blocks_for(static_cast<uint64_t>(a.n) * a.n_in / 8), kThreads, 0, stream, a);
}

cudaError_t launch_sort(const SortArgs& a, cudaStream_t stream) {
    return launch(sort_kernel, a.n_experts + 1, kThreads, 0, stream, a);
}

cudaError_t launch_combine(const CombineArgs& a, cudaStream_t stream) {
    return launch(combine_kernel, blocks_for(static_cast<uint64_t>(a.n) * a.width / 4), kThreads, 0, stream,
                  a);
}

}  // namespace ds4::gpu::cuda
