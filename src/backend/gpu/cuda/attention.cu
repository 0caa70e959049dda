
#include "backend/gpu/cuda/attention.h"
#include "backend/gpu/cuda/attention_prompt.h"
#include "backend/gpu/cuda/attention_rows.h"
#include "backend/gpu/cuda/launch.h"

// Attention on matrix units, model.md 6, for heads of 512 dims: a block takes a row and a tile of its heads
// and goes through pieces of 64 keys, each a softmax of its own, merged in order as in the shared body. The
// split form has 16 heads and a piece a block, the whole form 64 heads and all pieces; GPUs with warpgroup
// products have another whole form (attention_prompt.cu).
//
// Precision: queries, keys (but for the FP8 grid, which is exact) and the weights of a piece round to F16,
// 2^-12 of a value at most; sums are f32. Against the shared body a result moves by about 3e-4 of its size.
namespace ds4::gpu::cuda {
namespace {

constexpr uint32_t kThreads = 256, kWarps = 8;
constexpr uint32_t kScoreStride = kPiece + 8;       // floats; rows start in different banks
constexpr uint32_t kDimTiles = kDims / kWarps / 8;  // of a warp's outputs

// Everything of a block in shared memory.
template <uint32_t heads>
struct Tile {
    alignas(1024) uint8_t keys[2 * kPiece * kDims];
    alignas(1024) uint8_t queries[2 * heads * kDims];
    alignas(16) uint8_t weights[heads * 2 * kPiece];
    alignas(16) float scores[heads * kScoreStride];
    const uint8_t* rows[kPiece];
    // Of a piece: largest score (in powers of two) and sum of weights. Of the pieces so far, and what they
    // and the new one are multiplied by.
    float top[heads], sum[heads];
    float all_top[heads], all_sum[heads], of_all[heads], of_piece[heads];
    Turn turn[kDims / 2];
};

// Two softmaxes become one: what each is multiplied by.
struct Merge {
    float top, sum, of_all, of_piece;
};
DS4_DEVICE Merge merged(float all_top, float all_sum, float top, float sum) {
    Merge m;
    m.top = larger(all_top, top);
    m.of_all = power_of_two(all_top - m.top);
    m.of_piece = power_of_two(top - m.top);
    m.sum = __fmaf_rn(sum, m.of_piece, all_sum * m.of_all);
    return m;
}
DS4_DEVICE float combined(float all, float of_all, float piece, float of_piece) {
    return __fmaf_rn(piece, of_piece, all * of_all);
}

// ---- products

// Scores of 16 m_tiles heads from first_head and 8 n_tiles keys from first_key, to shared memory. Inputs in
// 32 steps of 16, even and odd ones summed apart.
template <uint32_t m_tiles, uint32_t n_tiles, uint32_t heads>
DS4_DEVICE void score_tile(uint32_t first_head, uint32_t first_key, float scale, Tile<heads>& s) {
    const uint32_t lane = threadIdx.x % 32;
    float c[2][m_tiles][n_tiles][4] = {};
    const uint32_t q_row = first_head + lane % 16, k_row = first_key + lane % 8;
    const uint32_t queries = shared_address(s.queries), keys = shared_address(s.keys);
#pragma unroll 4
    for (uint32_t step = 0; step < kDims / 16; step += 2) {
        uint32_t b[n_tiles][4];
#pragma unroll
        for (uint32_t n = 0; n < n_tiles; ++n) {
            load_matrices(b[n], keys + place_of<kPiece>(k_row + 8 * n, 2 * step + lane / 8));
        }
#pragma unroll
        for (uint32_t odd = 0; odd < 2; ++odd) {
#pragma unroll
            for (uint32_t m = 0; m < m_tiles; ++m) {
                uint32_t a[4];
                load_matrices(a, queries + place_of<heads>(q_row + 16 * m, 2 * (step + odd) + lane / 16));
#pragma unroll
                for (uint32_t n = 0; n < n_tiles; ++n)
                    mma_f16(c[odd][m][n], a, b[n][2 * odd], b[n][2 * odd + 1]);
            }
        }
    }
#pragma unroll
    for (uint32_t m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (uint32_t n = 0; n < n_tiles; ++n) {
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half) {
                const uint32_t head = first_head + 16 * m + lane / 4 + 8 * half;
                const uint32_t key = first_key + 8 * n + lane % 4 * 2;
                const float x = (c[0][m][n][2 * half] + c[1][m][n][2 * half]) * scale;
                const float y = (c[0][m][n][2 * half + 1] + c[1][m][n][2 * half + 1]) * scale;
                *reinterpret_cast<float2*>(s.scores + head * kScoreStride + key) = make_float2(x, y);
            }
        }
    }
}

// Weights of the n_keys keys of a piece; a warp takes its heads one after the other, a lane two keys.
template <uint32_t heads>
DS4_DEVICE void weigh(uint32_t n_keys, Tile<heads>& s) {
    constexpr uint32_t kOfWarp = heads / kWarps;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float kNone = as_float(0xff800000u);  // -infinity
#pragma unroll
    for (uint32_t i = 0; i < kOfWarp; ++i) {
        const uint32_t head = warp * kOfWarp + i;
        float2 score = *reinterpret_cast<const float2*>(s.scores + head * kScoreStride + 2 * lane);
        if (2 * lane >= n_keys) score.x = kNone;
        if (2 * lane + 1 >= n_keys) score.y = kNone;
        float top = larger(score.x, score.y);
#pragma unroll
        for (uint32_t mask = 16; mask > 0; mask /= 2)
            top = larger(top, __shfl_xor_sync(kAllLanes, top, mask));
        // What is summed is what is multiplied by: the rounded weights.
        const uint32_t pair = pack_halves(power_of_two(score.x - top), power_of_two(score.y - top));
        float sum = low_half(pair) + high_half(pair);
#pragma unroll
        for (uint32_t mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
        *reinterpret_cast<uint32_t*>(s.weights + place_of<heads>(head, lane / 4) + lane % 4 * 4) = pair;
        if (lane == 0) {
            s.top[head] = top;
            s.sum[head] = sum;
        }
    }
}

// c = weights of 16 heads times the keys' dims of this warp: 64 warp .. 64 warp + 63.
template <uint32_t heads>
DS4_DEVICE void weighted_sum(uint32_t first_head, float (&c)[kDimTiles][4], Tile<heads>& s) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t n = 0; n < kDimTiles; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
    const uint32_t weights = shared_address(s.weights), keys = shared_address(s.keys);
#pragma unroll
    for (uint32_t step = 0; step < kPiece / 16; ++step) {
        uint32_t a[4];
        load_matrices(a, weights + place_of<heads>(first_head + lane % 16, 2 * step + lane / 16));
#pragma unroll
        for (uint32_t n = 0; n < kDimTiles; n += 2) {
            uint32_t b[4];
            load_matrices_transposed(
                b, keys + place_of<kPiece>(16 * step + lane % 16, kDimTiles * warp + n + lane / 16));
            mma_f16(c[n], a, b[0], b[1]);
            mma_f16(c[n + 1], a, b[2], b[3]);
        }
    }
}

// ---- kernels

// Where the rows of a piece are, for whoever comes after a barrier.
template <uint32_t heads>
DS4_DEVICE void find_rows(const Visible& v, uint32_t piece, Tile<heads>& s) {
    if (threadIdx.x < kPiece) s.rows[threadIdx.x] = row_of(v, piece * kPiece + threadIdx.x);
}

// The keys of a piece, eight a warp, kAtOnce in flight: those of which the first one is wanted(place in the
// list).
constexpr uint32_t kAtOnce = 4;
template <uint32_t heads, class Wanted>
DS4_DEVICE void load_rows(const Visible& v, uint32_t piece, const Wanted& wanted, Tile<heads>& s) {
    constexpr uint32_t kOfWarp = kPiece / kWarps;
    const uint32_t first = piece * kPiece, warp = threadIdx.x / 32;
#pragma unroll 1
    for (uint32_t key = warp * kOfWarp; key < (warp + 1) * kOfWarp; key += kAtOnce) {
        if (!wanted(first + key)) continue;
        load_keys<kAtOnce>(
            v, first + key, [&](uint32_t r) { return s.rows[key + r]; }, key, s.keys);
    }
}

// The weights of a piece that is loaded. A barrier after.
template <uint32_t heads>
DS4_DEVICE void weigh_piece(const AttentionArgs& a, const Visible& v, uint32_t piece, Tile<heads>& s) {
    const uint32_t warp = threadIdx.x / 32;
    if constexpr (heads == 16) {
        score_tile<1, 1>(0, 8 * warp, a.scale * kLog2E, s);
    } else {
        static_assert(heads == 64);
        score_tile<2, 2>(warp % 2 * 32, warp / 2 * 16, a.scale * kLog2E, s);
    }
    __syncthreads();
    weigh(smaller(kPiece, v.n - piece * kPiece), s);
    __syncthreads();
}

constexpr uint32_t kSplitHeads = 16, kWholeHeads = 64;

// Grid: (n * tiles of heads, pieces)
__global__ void __launch_bounds__(kThreads, 2) split_kernel(const __grid_constant__ AttentionArgs a) {
    extern __shared__ __align__(1024) uint8_t shared[];
    Tile<kSplitHeads>& s = *reinterpret_cast<Tile<kSplitHeads>*>(shared);
    const uint32_t n_tiles = a.n_heads / kSplitHeads, of_launch = blockIdx.x / n_tiles, piece = blockIdx.y;
    const uint32_t row = a.first_row + of_launch, first_head = blockIdx.x % n_tiles * kSplitHeads;
    Visible v = known_rows(a, row);
    const bool selected = v.list != nullptr;
    const auto is_there = [&](uint32_t i) { return rows_written<kAtOnce>(a, v, i); };
    // What the predecessor does not write need not wait for it.
#pragma unroll 1
    for (uint32_t waited = 0; waited < 2; ++waited) {
        if (waited != 0) {
            wait_for_predecessor();
            release_dependents();
            if (selected) v.n += static_cast<uint32_t>(a.count[row]);
            if (piece * kPiece >= v.n) return;
        }
        if (waited == 0 || selected) find_rows(v, piece, s);
        if ((waited == 0) == selected) {
            load_queries<kSplitHeads, kThreads>(
                a.q + (static_cast<int64_t>(row) * a.n_heads + first_head) * kDims, s.queries);
        }
        __syncthreads();
        load_rows(
            v, piece, [&](uint32_t i) { return is_there(i) == (waited == 0); }, s);
        __syncthreads();
    }
    weigh_piece(a, v, piece, s);

    float c[kDimTiles][4];
    weighted_sum(0, c, s);
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t head_at = static_cast<int64_t>(of_launch) * a.n_heads + first_head;
    const auto partial = [&](uint32_t head) {
        return a.partial + ((head_at + head) * a.n_pieces + piece) * (kDims + 2);
    };
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
        float* out = partial(lane / 4 + 8 * half) + 8 * kDimTiles * warp + lane % 4 * 2;
#pragma unroll
        for (uint32_t n = 0; n < kDimTiles; ++n)
            *reinterpret_cast<float2*>(out + 8 * n) = make_float2(c[n][2 * half], c[n][2 * half + 1]);
    }
    if (threadIdx.x < kSplitHeads) {
        float* out = partial(threadIdx.x) + kDims;
        *reinterpret_cast<float2*>(out) = make_float2(s.top[threadIdx.x], s.sum[threadIdx.x]);
    }
}

// A thread has two dims. Grid: (n * n_heads, and n if it stores the window)
__global__ void __launch_bounds__(kThreads) merge_kernel(const __grid_constant__ AttentionArgs a) {
    const uint32_t row = a.first_row + blockIdx.x / a.n_heads, head = blockIdx.x % a.n_heads;
    if (row >= a.first_row + a.n_rows) {
        release_dependents();
        wait_for_predecessor();
        store_window_row(this_thread(), a.batch, a.kv, a.first_row + blockIdx.x - a.n_rows * a.n_heads,
                         kDims);
        return;
    }
    // A selection is older than the predecessor.
    const uint32_t n_pieces = (visible_rows(a, row).n + kPiece - 1) / kPiece;
    const uint32_t dim = 2 * threadIdx.x, n_plain = kDims - a.n_dims;
    Turn turn{1, 0};
    if (dim >= n_plain) turn = turn_of_pair(a, row, (dim - n_plain) / 2);
    float top = a.sinks[head] * kLog2E, sum = 1;  // the sink is a score without a value
    float2 all = make_float2(0, 0);
    const float* from = a.partial + static_cast<int64_t>(blockIdx.x) * a.n_pieces * (kDims + 2);
    release_dependents();
    wait_for_predecessor();
#pragma unroll 8
    for (uint32_t piece = 0; piece < n_pieces; ++piece, from += kDims + 2) {
        const float2 one = reinterpret_cast<const float2*>(from)[threadIdx.x];
        const float2 of_one = reinterpret_cast<const float2*>(from)[kDims / 2];
        const Merge m = merged(top, sum, of_one.x, of_one.y);
        all.x = combined(all.x, m.of_all, one.x, m.of_piece);
        all.y = combined(all.y, m.of_all, one.y, m.of_piece);
        top = m.top;
        sum = m.sum;
    }
    const float scale = 1.0f / sum;
    store_pair(all.x * scale, all.y * scale, dim >= n_plain ? &turn : nullptr,
               a.out + (static_cast<int64_t>(row) * a.n_heads + head) * kDims + dim);
}

// Grid: (n * tiles of heads)
__global__ void __launch_bounds__(kThreads, 1) whole_kernel(const __grid_constant__ AttentionArgs a) {
    extern __shared__ __align__(1024) uint8_t shared[];
    Tile<kWholeHeads>& s = *reinterpret_cast<Tile<kWholeHeads>*>(shared);
    wait_for_predecessor();
    release_dependents();
    const uint32_t n_tiles = a.n_heads / kWholeHeads, row = a.first_row + blockIdx.x / n_tiles;
    const uint32_t first_head = blockIdx.x % n_tiles * kWholeHeads;
    const int64_t head_at = static_cast<int64_t>(row) * a.n_heads + first_head;
    load_queries<kWholeHeads, kThreads>(a.q + head_at * kDims, s.queries);
    const Visible v = visible_rows(a, row);
    for (uint32_t i = threadIdx.x; i < a.n_dims / 2; i += kThreads) s.turn[i] = turn_of_pair(a, row, i);
    if (threadIdx.x < kWholeHeads) {
        s.all_top[threadIdx.x] = a.sinks[first_head + threadIdx.x] * kLog2E;
        s.all_sum[threadIdx.x] = 1;
    }
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float all[kWholeHeads / 16][kDimTiles][4] = {};
    for (uint32_t piece = 0; piece * kPiece < v.n; ++piece) {
        find_rows(v, piece, s);
        __syncthreads();
        load_rows(
            v, piece, [](uint32_t) { return true; }, s);
        __syncthreads();
        weigh_piece(a, v, piece, s);
        if (threadIdx.x < kWholeHeads) {
            const uint32_t h = threadIdx.x;
            const Merge m = merged(s.all_top[h], s.all_sum[h], s.top[h], s.sum[h]);
            s.all_top[h] = m.top;
            s.all_sum[h] = m.sum;
            s.of_all[h] = m.of_all;
            s.of_piece[h] = m.of_piece;
        }
        __syncthreads();
#pragma unroll
        for (uint32_t tile = 0; tile < kWholeHeads / 16; ++tile) {
            float c[kDimTiles][4];
            weighted_sum(16 * tile, c, s);
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half) {
                const uint32_t head = 16 * tile + lane / 4 + 8 * half;
                const float of_all = s.of_all[head], of_piece = s.of_piece[head];
#pragma unroll
                for (uint32_t n = 0; n < kDimTiles; ++n) {
#pragma unroll
                    for (uint32_t i = 2 * half; i < 2 * half + 2; ++i)
                        all[tile][n][i] = combined(all[tile][n][i], of_all, c[n][i], of_piece);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (uint32_t tile = 0; tile < kWholeHeads / 16; ++tile) {
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            const uint32_t head = 16 * tile + lane / 4 + 8 * half;
            const float scale = 1.0f / s.all_sum[head];
#pragma unroll
            for (uint32_t n = 0; n < kDimTiles; ++n) {
                const uint32_t dim = 8 * (kDimTiles * warp + n) + lane % 4 * 2, n_plain = kDims - a.n_dims;
                store_pair(all[tile][n][2 * half] * scale, all[tile][n][2 * half + 1] * scale,
                           dim >= n_plain ? &s.turn[(dim - n_plain) / 2] : nullptr,
                           a.out + (head_at + head) * kDims + dim);
            }
        }
    }
}

}  // namespace

bool launch_attention(const Launch& launched, cudaStream_t stream, cudaError_t& status) {
    const Kernel kernel = launched.kernel;
    if (kernel != Kernel::attention_whole && kernel != Kernel::attention_split &&
        kernel != Kernel::attention_merge) {
        return false;
    }
    const auto a = args_of<AttentionArgs>(launched);
    // All three or none: split and merge belong together.
    if (a.head_dim != kDims || a.n_heads % kWholeHeads != 0 ||
        device_shape().shared_per_block < sizeof(Tile<kWholeHeads>)) {
        return false;
    }
    if (kernel == Kernel::attention_whole && has_prompt_attention(a)) {
        status = launch_prompt_attention(a, stream);
    } else if (kernel == Kernel::attention_whole) {
        status = launch(whole_kernel, dim3(a.n_rows * (a.n_heads / kWholeHeads)), kThreads,
                        sizeof(Tile<kWholeHeads>), stream, a);
    } else if (kernel == Kernel::attention_split) {
        status = launch(split_kernel, dim3(a.n_rows * (a.n_heads / kSplitHeads), a.n_pieces), kThreads,
                        sizeof(Tile<kSplitHeads>), stream, a);
    } else {
        const uint32_t blocks = a.n_rows * a.n_heads + (a.stores_window != 0 ? a.n_rows : 0);
        status = launch(merge_kernel, dim3(blocks), kThreads, 0, stream, a);
    }
    return true;
}

}  // namespace ds4::gpu::cuda
