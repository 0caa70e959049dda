
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/streams.h"
#include "backend/gpu/cuda/streams_mix.h"

// Hyper-connections of generated rows: a row is a cluster of 16 blocks, each of which owns 256 columns of all
// streams. They expand, multiply by their columns of fn, exchange these sums, collapse, exchange the squares
// of x, and write. fn waits in registers; what comes from memory after the predecessor has ended is read
// once. One warp more a block: that of block 0 mixes post and comb while the others collapse.
//
// Bits: sums over a warp, then over the warps of a block, then over blocks, in this order.
namespace ds4::gpu::cuda {
namespace {

constexpr uint32_t kBlocks = 16;  // of a cluster
constexpr uint32_t kColumns = kWidth / kBlocks;
constexpr uint32_t kWorkers = 256, kWorkerWarps = kWorkers / kSimdWidth;
constexpr uint32_t kThreads = kWorkers + kSimdWidth;
constexpr uint32_t kThreadColumns = 4;  // of one stream, while the streams are expanded
constexpr uint32_t kMostClusters = 16;  // more rows are taken one after the other
static_assert(kColumns * kStreams == kWorkers * kThreadColumns && kColumns == kWorkers);
static_assert(kColumns == kActInputs);

struct SiteShared {
    alignas(16) float streams[kStreams][kColumns];
    float of_warp[kWorkerWarps][kSimdWidth];  // mixes and squares
    float of_block[kBlocks][kSimdWidth];      // the same, written by the blocks of the cluster
    float x_of_warp[kWorkerWarps];            // squares of x
    float x_of_block[kBlocks];
};

// ---- clusters; instructions of sm_90

DS4_DEVICE uint32_t rank_in_cluster() {
    uint32_t rank = 0;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return rank;
}
DS4_DEVICE void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
DS4_DEVICE void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
// To the place that `to` has in the memory of another block.
DS4_DEVICE void store_remote(float* to, uint32_t block, float v) {
#if __CUDA_ARCH__ >= 900
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(to)), "r"(block));
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(v) : "memory");
#endif
}

DS4_DEVICE void worker_barrier() {
    named_barrier(1, kWorkers);
}

// ---- parts of a row

// Four columns of a stream, expanded, from `column` on.
DS4_DEVICE float4 new_columns(const HcExpandArgs& a, uint32_t row, uint32_t stream, uint32_t column) {
    const float* streams = a.streams + static_cast<int64_t>(row) * kStreams * kWidth + column;
    if (a.y == nullptr) return load<float4>(streams + stream * kWidth);
    float4 old[kStreams];
    float comb[kStreams];
#pragma unroll
    for (uint32_t j = 0; j < kStreams; ++j) old[j] = load<float4>(streams + j * kWidth);
    const float4 y = load<float4>(a.y + static_cast<int64_t>(row) * kWidth + column);
#pragma unroll
    for (uint32_t j = 0; j < kStreams; ++j)
        comb[j] = a.comb[static_cast<int64_t>(row) * kStreams * kStreams + j * kStreams + stream];
    return expanded(a.post[static_cast<int64_t>(row) * kStreams + stream], comb, y, old);
}

// One step of a sum over the warp that leaves value l in lane l: of two values a lane keeps one.
DS4_DEVICE float kept_sum(float lower, float upper, uint32_t half) {
    const bool keeps_upper = (threadIdx.x & half) != 0;
    return (keeps_upper ? upper : lower) + __shfl_xor_sync(kAllLanes, keeps_upper ? lower : upper, half);
}
template <uint32_t half>
DS4_DEVICE float transposed_sum(const float (&v)[2 * half]) {
    float kept[half];
    unrolled<half>([&](auto i) { kept[i.value] = kept_sum(v[i.value], v[i.value + half], half); });
    if constexpr (half == 1) {
        return kept[0];
    } else {
        return transposed_sum<half / 2>(kept);
    }
}

template <class Weights>
DS4_DEVICE float dot(const Weights& weights, float4 z) {
    const float4 w = weights.values();
    return __fmaf_rn(w.w, z.w, __fmaf_rn(w.z, z.z, __fmaf_rn(w.y, z.y, w.x * z.x)));
}

// What four columns z a lane add to the mixes and to the squares: the sum of lane l over the warp.
template <class Weights>
DS4_DEVICE float warp_sums(const Weights (&fn)[kMixes], float4 z) {
    constexpr uint32_t kHalf = kSimdWidth / 2;
    const float squares = __fmaf_rn(z.w, z.w, __fmaf_rn(z.z, z.z, __fmaf_rn(z.y, z.y, z.x * z.x)));
    float v[kHalf];
#pragma unroll
    for (uint32_t i = 0; i < kHalf; ++i) {
        const float upper = i + kHalf < kMixes ? dot(fn[i + kHalf < kMixes ? i + kHalf : 0], z) : 0;
        v[i] = kept_sum(dot(fn[i], z), i + kHalf == kSquares ? squares : upper, kHalf);
    }
    return transposed_sum<kHalf / 2>(v);
}

// Sums of the block to all blocks of the cluster: a warp has two of them to write to.
DS4_DEVICE void publish_sums(SiteShared& s, uint32_t rank, uint32_t warp, uint32_t lane) {
    static_assert(kBlocks == 2 * kWorkerWarps);
    float sum = 0;
#pragma unroll
    for (uint32_t w = 0; w < kWorkerWarps; ++w) sum += s.of_warp[w][lane];
    store_remote(&s.of_block[rank][lane], 2 * warp, sum);
    store_remote(&s.of_block[rank][lane], 2 * warp + 1, sum);
}

DS4_DEVICE float sum_of_blocks(const SiteShared& s, uint32_t lane) {
    float sum = 0;
#pragma unroll
    for (uint32_t b = 0; b < kBlocks; ++b) sum += s.of_block[b][lane];
    return sum;
}

// The sum of squares of the block's part of x to all blocks, a lane each. By one warp.
DS4_DEVICE void publish_squares(SiteShared& s, uint32_t rank, uint32_t lane) {
    float sum = 0;
#pragma unroll
    for (uint32_t w = 0; w < kWorkerWarps; ++w) sum += s.x_of_warp[w];
    if (lane < kBlocks) store_remote(&s.x_of_block[rank], lane, sum);
}

// This thread's column of x, normed.
DS4_DEVICE float normed(const HcMixArgs& a, const SiteShared& s, float weight, float x) {
    if (a.norm == nullptr) return x;
    float squares = 0;
#pragma unroll
    for (uint32_t b = 0; b < kBlocks; ++b) squares += s.x_of_block[b];
    return weight * (x * rsqrtf(squares / static_cast<float>(kWidth) + a.norm_eps));
}

// ---- the kernel. Grid: clusters; rows from cluster to cluster

template <class Weights>
__global__ void __launch_bounds__(kThreads, Weights::kBytes == 2 ? 2 : 1)
    site_kernel(const __grid_constant__ HcSiteArgs a, uint32_t n) {
    __shared__ SiteShared s;
    const uint32_t thread = threadIdx.x, warp = thread / kSimdWidth, lane = thread % kSimdWidth;
    const uint32_t rank = rank_in_cluster(), first = rank * kColumns;
    const bool works = warp < kWorkerWarps;
    const uint32_t stream = thread / (kColumns / kThreadColumns);
    const uint32_t column = thread % (kColumns / kThreadColumns) * kThreadColumns;  // of the block's

    Weights fn[kMixes] = {};
    float norm = 0;
    if (works) {
        const uint8_t* from = a.fn + (stream * kWidth + first + column) * Weights::kBytes;
#pragma unroll
        for (uint32_t i = 0; i < kMixes; ++i) {
            if (i < a.mix.n_mix) fn[i] = load<Weights>(from + i * a.row_bytes);
        }
        if (a.mix.norm != nullptr) norm = a.mix.norm[first + thread];
    }
    const MixLane mix = mix_lane(a.mix);
    arrive_at_cluster();
    release_dependents();
    wait_for_predecessor();

    bool peers_run = false;  // nobody writes to a block that has not begun
    for (uint32_t row = blockIdx.x / kBlocks; row < n; row += gridDim.x / kBlocks) {
        float4 z;
        if (works) {
#pragma unroll
            for (uint32_t i = 0; i < kMixes; ++i) fn[i].keep();
            z = new_columns(a.expand, row, stream, first + column);
            *reinterpret_cast<float4*>(&s.streams[stream][column]) = z;
            s.of_warp[warp][lane] = warp_sums(fn, z);
            worker_barrier();
        }
        if (!peers_run) wait_for_cluster();
        peers_run = true;
        if (works) publish_sums(s, rank, warp, lane);
        arrive_at_cluster();
        if (works && a.expand.y != nullptr) {
            // All of the block have read what was there: they have passed the barrier.
            float* to = a.expand.streams + (static_cast<int64_t>(row) * kStreams + stream) * kWidth;
            *reinterpret_cast<float4*>(to + first + column) = z;
        }
        wait_for_cluster();
        const float logit = logit_of(a.mix, mix, sum_of_blocks(s, lane));
        if (!works) {
            arrive_at_cluster();
            if (rank == 0 && a.mix.post != nullptr) mix_back(a.mix, logit, row);
            wait_for_cluster();
            continue;
        }
        float pre[kStreams];
        pre_of(a.mix, logit, pre);
        float x = collapsed(pre, s.streams[0][thread], s.streams[1][thread], s.streams[2][thread],
                            s.streams[3][thread]);
        const float squares = sum_of_warp(x * x);
        if (lane == 0) s.x_of_warp[warp] = squares;
        worker_barrier();
        if (warp == 0) publish_squares(s, rank, lane);
        arrive_at_cluster();
        wait_for_cluster();
        x = normed(a.mix, s, norm, x);
        a.mix.x[static_cast<int64_t>(row) * kWidth + first + thread] = x;
    }
}

struct SiteConfig {
    cudaLaunchAttribute attributes[2]{};
    cudaLaunchConfig_t config{};

    SiteConfig(uint32_t n_clusters, cudaStream_t stream) {
        attributes[0].id = cudaLaunchAttributeClusterDimension;
        attributes[0].val.clusterDim = {kBlocks, 1, 1};
        attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[1].val.programmaticStreamSerializationAllowed = 1;
        config.gridDim = dim3(n_clusters * kBlocks);
        config.blockDim = dim3(kThreads);
        config.stream = stream;
        config.attrs = attributes;
        config.numAttrs = 2;
    }
    SiteConfig(const SiteConfig&) = delete;
};

// More than 8 blocks are asked for each time: a device that was reset has forgotten it.
template <class Weights>
cudaError_t allow_large_clusters() {
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(&site_kernel<Weights>),
                                cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

// Whether the GPU runs such clusters: sm_90 and later, with 16 multiprocessors in one group of them.
template <class Weights>
bool has_clusters() {
    static const bool has = [] {
        if (!device_shape().has_dependent_launch) return false;
        SiteConfig site(1, nullptr);
        site.config.numAttrs = 1;
        int n = 0;
        const bool fits =
            allow_large_clusters<Weights>() == cudaSuccess &&
            cudaOccupancyMaxActiveClusters(&n, &site_kernel<Weights>, &site.config) == cudaSuccess && n > 0;
        if (!fits) cudaGetLastError();
        return fits;
    }();
    return has;
}

bool launch_site(const HcSiteArgs& a, uint32_t n, cudaStream_t stream, cudaError_t& status) {
    if (!suits_streams(a.expand) || !suits_mixing(a.type, a.row_bytes, a.mix.n_mix)) return false;
    return with_weights(a.type, [&](auto weights) {
        using Weights = decltype(weights);
        if (!has_clusters<Weights>()) return false;
        const SiteConfig site(n < kMostClusters ? n : kMostClusters, stream);
        status = allow_large_clusters<Weights>();
        if (status == cudaSuccess) status = cudaLaunchKernelEx(&site.config, &site_kernel<Weights>, a, n);
        return true;
    });
}

}  // namespace

bool launch_streams(const Launch& launch, cudaStream_t stream, cudaError_t& status) {
    if (launch.kernel == Kernel::hc_site)
        return launch_site(args_of<HcSiteArgs>(launch), launch.grid.x, stream, status);
    if (launch.kernel == Kernel::hc_dots) return launch_dots(args_of<HcDotsArgs>(launch), stream, status);
    if (launch.kernel == Kernel::hc_mix)
        return launch_mix(args_of<HcMixArgs>(launch), launch.grid.x, stream, status);
    return false;
}

}  // namespace ds4::gpu::cuda
