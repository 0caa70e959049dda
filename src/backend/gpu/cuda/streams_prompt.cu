#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/streams.h"
#include "backend/gpu/cuda/streams_mix.h"

// Hyper-connections of rows of prompts, in two passes over the streams, both as fast as the memory.
//
// The first expands them and multiplies by fn on matrix units: a warp takes 16 rows and a slice of columns.
// Weights of 16 bits are exact as TF32; x is two TF32 numbers, which keep 22 bits and more of it, and so is
// an F32 weight. Products of 64 inputs are summed by the matrix units, which cut off what does not fit; such
// sums are added in f32. The second pass collapses: a block takes a row.
namespace ds4::gpu::cuda {
namespace {

// ---- expansion and products

constexpr uint32_t kTileRows = 16, kStepColumns = 16;  // of a warp at a time
constexpr uint32_t kDotsWarps = 4;                     // of a block, with rows of their own
constexpr uint32_t kMixTiles = kMixes / 8;
static_assert(kHcColumns % kStepColumns == 0 && kWidth % kHcColumns == 0 && kMixes % 8 == 0);

// c += a b, 16 x 8 x 8 TF32, f32 sums. Lane 4g + q holds, of a: rows g, g + 8 in column q, then the same in
// column q + 4; of b: column g in rows q, q + 4; of c: row g columns 2q, 2q + 1, then row g + 8.
DS4_DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// An f32 as the nearest TF32 number and what that leaves (of which the units drop the last bit or two).
struct SplitTf32 {
    uint32_t high, low;
};
DS4_DEVICE SplitTf32 split_tf32(float x) {
    const uint32_t high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
    return {high, __float_as_uint(x - __uint_as_float(high))};
}

// Four columns of two rows, as the matrix units take them: which column is which row of b does not matter as
// long as both say the same. Columns 0 and 1 of a lane go into the first product, 2 and 3 into the second.
struct SplitColumns {
    uint32_t high[2][4], low[2][4];
};
DS4_DEVICE SplitColumns split_columns(float4 upper, float4 lower) {
    SplitColumns s;
    const float x[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
        const SplitTf32 split = split_tf32(x[i / 4][i % 4]);
        s.high[i / 4][i % 4] = split.high;
        s.low[i / 4][i % 4] = split.low;
    }
    return s;
}

// c += x w for 16 columns of a stream.
template <class Weights>
DS4_DEVICE void add_products(float (&c)[4], const SplitColumns& x, const Weights& weights) {
    const float4 w = weights.values();
    const float pair[2][2] = {{w.x, w.y}, {w.z, w.w}};
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        if constexpr (Weights::kSplits) {
            const SplitTf32 w0 = split_tf32(pair[i][0]), w1 = split_tf32(pair[i][1]);
            mma_tf32(c, x.high[i], w0.low, w1.low);
            mma_tf32(c, x.low[i], w0.high, w1.high);
            mma_tf32(c, x.high[i], w0.high, w1.high);
        } else {
            const uint32_t w0 = __float_as_uint(pair[i][0]), w1 = __float_as_uint(pair[i][1]);
            mma_tf32(c, x.low[i], w0, w1);
            mma_tf32(c, x.high[i], w0, w1);
        }
    }
}

// How one of the lane's two rows is expanded.
struct Expansion {
    float post[kStreams], comb[kStreams][kStreams];  // comb[k]: what stream k is made of
};
DS4_DEVICE Expansion expansion_of(const HcExpandArgs& a, uint32_t row) {
    Expansion e;
    const float4 post = load<float4>(a.post + static_cast<int64_t>(row) * kStreams);
    e.post[0] = post.x, e.post[1] = post.y, e.post[2] = post.z, e.post[3] = post.w;
#pragma unroll
    for (uint32_t j = 0; j < kStreams; ++j) {
        const float4 of_j =
            load<float4>(a.comb + static_cast<int64_t>(row) * kStreams * kStreams + j * kStreams);
        e.comb[0][j] = of_j.x, e.comb[1][j] = of_j.y, e.comb[2][j] = of_j.z, e.comb[3][j] = of_j.w;
    }
    return e;
}

DS4_DEVICE float add_squares(float sum, float4 z) {
    return __fmaf_rn(z.w, z.w, __fmaf_rn(z.z, z.z, __fmaf_rn(z.y, z.y, __fmaf_rn(z.x, z.x, sum))));
}

// Of the 16 rows of a warp and the columns of a slice.
struct SliceSums {
    float mixes[kMixTiles][4];  // as mma_tf32's c
    float squares[2];           // of the lane's columns of rows g and g + 8
};

// Grid: (slices, parts of kDotsWarps * kTileRows rows)
template <class Weights, bool expands>
__global__ void __launch_bounds__(kDotsWarps* kSimdWidth, 3)
    dots_kernel(const __grid_constant__ HcDotsArgs a) {
    const uint32_t warp = threadIdx.x / kSimdWidth, lane = threadIdx.x % kSimdWidth, g = lane / 4;
    const uint32_t first_row = (blockIdx.y * kDotsWarps + warp) * kTileRows;
    const uint32_t column = blockIdx.x * kHcColumns + lane % 4 * 4;
    wait_for_predecessor();
    release_dependents();
    if (first_row >= a.n) return;
    // Rows past the end are the last one, read again and not stored.
    bool exists[2];
    uint32_t row[2];
    float* streams[2];
    const float* y[2];
    Expansion expansion[2];
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
        exists[h] = first_row + g + 8 * h < a.n;
        row[h] = exists[h] ? first_row + g + 8 * h : a.n - 1;
        streams[h] = a.expand.streams + static_cast<int64_t>(row[h]) * kStreams * kWidth + column;
        if constexpr (expands) {
            y[h] = a.expand.y + static_cast<int64_t>(row[h]) * kWidth + column;
            expansion[h] = expansion_of(a.expand, row[h]);
        }
    }
    const uint8_t* fn = a.fn + g * a.row_bytes + column * Weights::kBytes;
    const auto load_weights = [&](Weights(&w)[kMixTiles], uint32_t stream, uint32_t step) {
#pragma unroll
        for (uint32_t t = 0; t < kMixTiles; ++t) {
            w[t] = {};
            if (8 * t + g < a.n_mix)
                w[t] = load<Weights>(fn + 8 * t * a.row_bytes + (stream * kWidth + step) * Weights::kBytes);
        }
    };
    SliceSums sums = {};
#pragma unroll 1
    for (uint32_t step = 0; step < kHcColumns; step += kStepColumns) {
        float4 old[2][kStreams], of_y[2];
        Weights w[2][kMixTiles];
        load_weights(w[0], 0, step);
#pragma unroll
        for (uint32_t h = 0; h < 2; ++h) {
#pragma unroll
            for (uint32_t j = 0; j < kStreams; ++j)
                old[h][j] = __ldcs(reinterpret_cast<const float4*>(streams[h] + j * kWidth + step));
            if constexpr (expands) of_y[h] = __ldcs(reinterpret_cast<const float4*>(y[h] + step));
        }
        float c[kMixTiles][4] = {};
#pragma unroll
        for (uint32_t k = 0; k < kStreams; ++k) {
            // Loaded ahead: past the stores below no load moves up by itself.
            if (k + 1 < kStreams) load_weights(w[(k + 1) % 2], k + 1, step);
            float4 z[2];
#pragma unroll
            for (uint32_t h = 0; h < 2; ++h) {
                z[h] = old[h][k];
                if constexpr (expands) {
                    z[h] = expanded(expansion[h].post[k], expansion[h].comb[k], of_y[h], old[h]);
                    if (exists[h]) *reinterpret_cast<float4*>(streams[h] + k * kWidth + step) = z[h];
                }
                sums.squares[h] = add_squares(sums.squares[h], z[h]);
            }
            const SplitColumns x = split_columns(z[0], z[1]);
#pragma unroll
            for (uint32_t t = 0; t < kMixTiles; ++t) add_products(c[t], x, w[k % 2][t]);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4 * kMixTiles; ++i) sums.mixes[i / 4][i % 4] += c[i / 4][i % 4];
    }
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
        float squares = sums.squares[h] + __shfl_xor_sync(kAllLanes, sums.squares[h], 1);
        squares += __shfl_xor_sync(kAllLanes, squares, 2);
        if (!exists[h]) continue;
        float* out = a.partial + (static_cast<int64_t>(row[h]) * a.n_slices + blockIdx.x) * (a.n_mix + 1);
#pragma unroll
        for (uint32_t i = 0; i < 2 * kMixTiles; ++i) {
            const uint32_t mix = i / 2 * 8 + lane % 4 * 2 + i % 2;
            if (mix < a.n_mix) out[mix] = sums.mixes[i / 2][2 * h + i % 2];
        }
        if (lane % 4 == 0) out[a.n_mix] = squares;
    }
}

// ---- collapse

constexpr uint32_t kMixWorkers = 512, kMixWarps = kMixWorkers / kSimdWidth;
constexpr uint32_t kMixThreads = kMixWorkers + kSimdWidth;  // the last warp mixes post and comb
constexpr uint32_t kParts = kWidth / (4 * kMixWorkers);     // of a row: four columns a thread

struct MixShared {
    float of_warp[kMixWarps][kSimdWidth];  // mixes and squares
    float x_of_warp[kMixWarps];            // squares of x
};

// A lane's value of the slices, in a fixed order: slices of a warp, then warps.
DS4_DEVICE void add_slices(const HcMixArgs& a, uint32_t row, MixShared& s) {
    const uint32_t warp = threadIdx.x / kSimdWidth, lane = threadIdx.x % kSimdWidth;
    // The squares stand behind the mixes that there are.
    const uint32_t from = lane == kSquares ? a.n_mix : lane;
    const bool has = lane == kSquares || lane < a.n_mix;
    float sum = 0;
    for (uint32_t slice = warp; slice < a.n_slices; slice += kMixWarps) {
        const int64_t at = static_cast<int64_t>(row) * a.n_slices + slice;
        if (has) sum += a.partial[at * (a.n_mix + 1) + from];
    }
    s.of_warp[warp][lane] = sum;
}

// Rows from the last one on: the end of what the first pass wrote is still in the L2. Grid: (n)
__global__ void __launch_bounds__(kMixThreads, 2) mix_kernel(const __grid_constant__ HcMixArgs a) {
    __shared__ MixShared s;
    const uint32_t warp = threadIdx.x / kSimdWidth, lane = threadIdx.x % kSimdWidth;
    const uint32_t row = gridDim.x - 1 - blockIdx.x;
    const bool works = warp < kMixWarps;
    const MixLane mix = mix_lane(a);
    wait_for_predecessor();
    release_dependents();
    float4 z[kParts][kStreams];
    if (works) {
        const float* streams = a.streams + static_cast<int64_t>(row) * kStreams * kWidth + 4 * threadIdx.x;
#pragma unroll
        for (uint32_t i = 0; i < kParts * kStreams; ++i)
            z[i / kStreams][i % kStreams] = __ldcs(reinterpret_cast<const float4*>(
                streams + i % kStreams * kWidth + i / kStreams * 4 * kMixWorkers));
        add_slices(a, row, s);
    }
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (uint32_t w = 0; w < kMixWarps; ++w) sum += s.of_warp[w][lane];
    const float logit = logit_of(a, mix, sum);
    if (!works) {
        if (a.post != nullptr) mix_back(a, logit, row);
        return;
    }
    float pre[kStreams];
    pre_of(a, logit, pre);
    float4 x[kParts];
    float squares = 0;
#pragma unroll
    for (uint32_t i = 0; i < kParts; ++i) {
        const float4(&of)[kStreams] = z[i];
        x[i] = make_float4(collapsed(pre, of[0].x, of[1].x, of[2].x, of[3].x),
                           collapsed(pre, of[0].y, of[1].y, of[2].y, of[3].y),
                           collapsed(pre, of[0].z, of[1].z, of[2].z, of[3].z),
                           collapsed(pre, of[0].w, of[1].w, of[2].w, of[3].w));
        squares = add_squares(squares, x[i]);
    }
    float scale = 1;
    if (a.norm != nullptr) {
        squares = sum_of_warp(squares);
        if (lane == 0) s.x_of_warp[warp] = squares;
        named_barrier(1, kMixWorkers);
        float all = 0;
#pragma unroll
        for (uint32_t w = 0; w < kMixWarps; ++w) all += s.x_of_warp[w];
        scale = rsqrtf(all / static_cast<float>(kWidth) + a.norm_eps);
    }
#pragma unroll
    for (uint32_t i = 0; i < kParts; ++i) {
        const uint32_t at = 4 * (threadIdx.x + i * kMixWorkers);
        if (a.norm != nullptr) {
            const float4 w = load<float4>(a.norm + at);
            x[i] = make_float4(w.x * (x[i].x * scale), w.y * (x[i].y * scale), w.z * (x[i].z * scale),
                               w.w * (x[i].w * scale));
        }
        *reinterpret_cast<float4*>(a.x + static_cast<int64_t>(row) * kWidth + at) = x[i];
    }
}

bool is_aligned(const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

}  // namespace

bool suits_streams(const HcExpandArgs& a) {
    return a.n_streams == kStreams && a.width == kWidth && is_aligned(a.streams) && is_aligned(a.y) &&
           is_aligned(a.post) && is_aligned(a.comb);
}
bool suits_mixing(std::uint32_t type, std::int64_t row_bytes, std::uint32_t n_mix) {
    return (type == kTypeF16 || type == kTypeBf16 || type == kTypeF32) && row_bytes % 16 == 0 &&
           n_mix <= kMixes;
}

bool launch_dots(const HcDotsArgs& a, cudaStream_t stream, cudaError_t& status) {
    if (!suits_streams(a.expand) || !suits_mixing(a.type, a.row_bytes, a.n_mix)) return false;
    constexpr uint32_t kBlockRows = kDotsWarps * kTileRows;
    const dim3 grid(kWidth / kHcColumns, (a.n + kBlockRows - 1) / kBlockRows);
    status = with_weights(a.type, [&](auto weights) {
        using Weights = decltype(weights);
        const auto kernel =
            a.expand.y != nullptr ? &dots_kernel<Weights, true> : &dots_kernel<Weights, false>;
        return launch(kernel, grid, kDotsWarps * kSimdWidth, 0, stream, a);
    });
    return true;
}

bool launch_mix(const HcMixArgs& a, std::uint32_t n, cudaStream_t stream, cudaError_t& status) {
    if (a.n_streams != kStreams || a.width != kWidth || a.n_mix > kMixes || !is_aligned(a.streams) ||
        !is_aligned(a.x) || !is_aligned(a.norm)) {
        return false;
    }
    status = launch(&mix_kernel, dim3(n), kMixThreads, 0, stream, a);
    return true;
}

}  // namespace ds4::gpu::cuda
