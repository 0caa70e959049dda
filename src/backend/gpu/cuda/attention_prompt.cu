#include "backend/gpu/cuda/attention_prompt.h"
#include "backend/gpu/cuda/attention_rows.h"
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/wgmma.h"

// Attention of prompts where warpgroup products are, model.md 6, for heads of 512 dims: a block takes a row
// and 64 of its heads. Eight warps bring pieces of 64 keys to shared memory as halves, two pieces ahead;
// eight others score them, a warpgroup 32 keys, and have 64 dims of the result each. The softmax of all
// pieces so far has one largest score; what was summed before shrinks when it grows.
//
// Precision: as in attention.cu.
namespace ds4::gpu::cuda {
namespace {

constexpr uint32_t kHeads = 64;  // of a block
constexpr uint32_t kBlockThreads = 512, kMultiplying = 256, kLoadingWarps = 8;
constexpr uint32_t kBuffers = 2;

// Barriers of warps; 0 is the block's.
enum Barrier : uint32_t { kMultipliers = 1, kFull, kEmpty = kFull + kBuffers };

struct Room {
    alignas(1024) uint8_t keys[kBuffers][kPiece * 2 * kDims];
    alignas(1024) uint8_t queries[kHeads * 2 * kDims];
    alignas(1024) uint8_t weights[kHeads * 2 * kPiece];
    float top[2][kHeads];  // of the keys of a warpgroup
    float sum[2][kHeads];
    float shrink[kHeads];
    Turn turn[kDims / 2];
};

// ---- loading

DS4_DEVICE const uint8_t* row_of_lane(const uint8_t* row, uint32_t lane) {
    const auto address = reinterpret_cast<uint64_t>(row);
    const uint32_t low = __shfl_sync(kAllLanes, static_cast<uint32_t>(address), static_cast<int>(lane));
    const uint32_t high =
        __shfl_sync(kAllLanes, static_cast<uint32_t>(address >> 32), static_cast<int>(lane));
    return reinterpret_cast<const uint8_t*>(static_cast<uint64_t>(high) << 32 | low);
}

DS4_DEVICE void load_pieces(const Visible& v, Room& s) {
    constexpr uint32_t kOfWarp = kPiece / kLoadingWarps, kAtOnce = 2;
    const uint32_t first_key = (threadIdx.x / 32 - kMultiplying / 32) * kOfWarp, lane = threadIdx.x % 32;
#pragma unroll 1
    for (uint32_t piece = 0; piece * kPiece < v.n; ++piece) {
        const uint32_t buffer = piece % kBuffers, first = piece * kPiece + first_key;
        const uint8_t* mine = lane < kOfWarp ? row_of(v, first + lane) : nullptr;
        if (piece >= kBuffers) named_barrier(kEmpty + buffer, kBlockThreads);
#pragma unroll 1
        for (uint32_t key = 0; key < kOfWarp; key += kAtOnce) {
            load_keys<kAtOnce>(
                v, first + key, [&](uint32_t r) { return row_of_lane(mine, key + r); }, first_key + key,
                s.keys[buffer]);
        }
        copy_engine_fence();
        named_arrive(kFull + buffer, kBlockThreads);
    }
}

// ---- products

#if defined(DS4_WGMMA)

// Scores of 16 heads of this warp and 32 keys of its warpgroup.
DS4_DEVICE void score(const uint8_t* keys, const uint8_t* queries, float (&c)[4][4]) {
    constexpr uint32_t kColumns = kDims / 64, kColumnBytes = 128 * kPiece;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t head = 16 * (warp % 4) + lane % 16;
    const uint8_t* own_keys = keys + warp / 4 * (32 * 128);
    uint32_t a[2][4][4];
#pragma unroll
    for (uint32_t n = 0; n < 4; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (uint32_t column = 0; column < kColumns; ++column) {
        if (column >= 2) wgmma_wait<1>();  // the column before the last has let go of its registers
#pragma unroll
        for (uint32_t step = 0; step < 4; ++step)
            load_matrices(a[column % 2][step], shared_address(queries) +
                                                   place_of<kHeads>(head, 8 * column + 2 * step + lane / 16));
        wgmma_fence();
#pragma unroll
        for (uint32_t step = 0; step < 4; ++step)
            wgmma_f16(c, a[column % 2][step], wgmma_columns(own_keys + column * kColumnBytes) + 2 * step);
        wgmma_commit();
    }
    wgmma_wait<0>();
    wgmma_hold(c);
}

#endif

DS4_DEVICE float quad_max(float x) {
    x = larger(x, __shfl_xor_sync(kAllLanes, x, 1));
    return larger(x, __shfl_xor_sync(kAllLanes, x, 2));
}
DS4_DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// The softmax of two heads over the keys of this warpgroup, and the largest score of all keys so far.
struct Softmaxes {
    float top[2], sum[2];
};

// Scores become weights in shared memory; n_keys are there. Waits for the other warpgroup.
DS4_DEVICE void weigh(float (&c)[4][4], float scale, uint32_t n_keys, Softmaxes& of, Room& s) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
    const uint32_t head = 16 * (warp % 4) + lane / 4, first_key = 32 * half + lane % 4 * 2;
    const float kNone = as_float(0xff800000u);  // -infinity
    float top[2] = {kNone, kNone};
#pragma unroll
    for (uint32_t n = 0; n < 4; ++n) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            c[n][i] = first_key + 8 * n + i % 2 < n_keys ? c[n][i] * scale : kNone;
            top[i / 2] = larger(top[i / 2], c[n][i]);
        }
    }
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) {
        top[r] = quad_max(top[r]);
        if (lane % 4 == 0) s.top[half][head + 8 * r] = top[r];
    }
    named_barrier(kMultipliers, kMultiplying);
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) {
        const float new_top = larger(of.top[r], larger(top[r], s.top[1 - half][head + 8 * r]));
        const float shrink = power_of_two(of.top[r] - new_top);
        if (half == 0 && lane % 4 == 0) s.shrink[head + 8 * r] = shrink;
        // What is summed is what is multiplied by: the rounded weights.
        float sum = 0;
#pragma unroll
        for (uint32_t n = 0; n < 4; ++n) {
            const uint32_t pair =
                pack_halves(power_of_two(c[n][2 * r] - new_top), power_of_two(c[n][2 * r + 1] - new_top));
            sum += low_half(pair) + high_half(pair);
            *reinterpret_cast<uint32_t*>(s.weights + place_of<kHeads>(head + 8 * r, 4 * half + n) +
                                         lane % 4 * 4) = pair;
        }
        of.sum[r] = __fmaf_rn(of.sum[r], shrink, quad_sum(sum));
        of.top[r] = new_top;
    }
    named_barrier(kMultipliers, kMultiplying);
}

// all = all * shrink + weights keys: all heads, 64 dims of this warp.
DS4_DEVICE void add_weighted(const uint8_t* piece, float (&all)[4][8][4], const Room& s) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t tile = 0; tile < 4; ++tile) {
        const float first = s.shrink[16 * tile + lane / 4], second = s.shrink[16 * tile + lane / 4 + 8];
#pragma unroll
        for (uint32_t n = 0; n < 8; ++n) {
            all[tile][n][0] *= first;
            all[tile][n][1] *= first;
            all[tile][n][2] *= second;
            all[tile][n][3] *= second;
        }
    }
    const uint32_t weights = shared_address(s.weights), keys = shared_address(piece);
#pragma unroll 2
    for (uint32_t step = 0; step < kPiece / 16; ++step) {
        uint32_t a[4][4];
#pragma unroll
        for (uint32_t tile = 0; tile < 4; ++tile)
            load_matrices(a[tile], weights + place_of<kHeads>(16 * tile + lane % 16, 2 * step + lane / 16));
#pragma unroll
        for (uint32_t n = 0; n < 8; n += 2) {
            uint32_t b[4];
            load_matrices_transposed(
                b, keys + place_of<kPiece>(16 * step + lane % 16, 8 * warp + n + lane / 16));
#pragma unroll
            for (uint32_t tile = 0; tile < 4; ++tile) {
                mma_f16(all[tile][n], a[tile], b[0], b[1]);
                mma_f16(all[tile][n + 1], a[tile], b[2], b[3]);
            }
        }
    }
}

DS4_DEVICE void store_results(const AttentionArgs& a, const float (&all)[4][8][4], float* heads,
                              const Room& s) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_plain = kDims - a.n_dims;
#pragma unroll
    for (uint32_t tile = 0; tile < 4; ++tile) {
#pragma unroll
        for (uint32_t r = 0; r < 2; ++r) {
            const uint32_t head = 16 * tile + lane / 4 + 8 * r;
            const float scale = 1.0f / (s.sum[0][head] + s.sum[1][head]);
#pragma unroll
            for (uint32_t n = 0; n < 8; ++n) {
                const uint32_t dim = 64 * warp + 8 * n + lane % 4 * 2;
                store_pair(all[tile][n][2 * r] * scale, all[tile][n][2 * r + 1] * scale,
                           dim >= n_plain ? &s.turn[(dim - n_plain) / 2] : nullptr,
                           heads + head * kDims + dim);
            }
        }
    }
}

#if defined(DS4_WGMMA)

DS4_DEVICE void multiply_pieces(const AttentionArgs& a, uint32_t row, uint32_t first_head, Room& s) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
    const uint32_t head = 16 * (warp % 4) + lane / 4;
    const int64_t at = (static_cast<int64_t>(row) * a.n_heads + first_head) * kDims;
    const uint32_t n_seen = visible_rows(a, row).n;
    load_queries<kHeads, kMultiplying>(a.q + at, s.queries);
    for (uint32_t i = threadIdx.x; i < a.n_dims / 2; i += kMultiplying) s.turn[i] = turn_of_pair(a, row, i);
    named_barrier(kMultipliers, kMultiplying);

    // The sink is a score without a value.
    Softmaxes of;
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) {
        of.top[r] = a.sinks[first_head + head + 8 * r] * kLog2E;
        of.sum[r] = half == 0 ? 1.0f : 0.0f;
    }
    float all[4][8][4] = {};
#pragma unroll 1
    for (uint32_t piece = 0; piece * kPiece < n_seen; ++piece) {
        const uint32_t buffer = piece % kBuffers;
        named_barrier(kFull + buffer, kBlockThreads);
        float c[4][4];
        score(s.keys[buffer], s.queries, c);
        weigh(c, a.scale * kLog2E, n_seen - piece * kPiece, of, s);
        add_weighted(s.keys[buffer], all, s);
        if ((piece + kBuffers) * kPiece < n_seen) named_arrive(kEmpty + buffer, kBlockThreads);
    }
    if (lane % 4 == 0) {
        s.sum[half][head] = of.sum[0];
        s.sum[half][head + 8] = of.sum[1];
    }
    named_barrier(kMultipliers, kMultiplying);
    store_results(a, all, a.out + at, s);
}

#endif

// Grid: (n_rows * tiles of heads)
__global__ void __launch_bounds__(kBlockThreads, 1)
    prompt_kernel([[maybe_unused]] const __grid_constant__ AttentionArgs a) {
#if defined(DS4_WGMMA)
    extern __shared__ __align__(1024) uint8_t shared[];
    Room& s = *reinterpret_cast<Room*>(shared);
    wait_for_predecessor();
    release_dependents();
    const uint32_t n_tiles = a.n_heads / kHeads, row = a.first_row + blockIdx.x / n_tiles;
    // 65,536 registers: 512 times 128.
    if (threadIdx.x >= kMultiplying) {
        give_registers<56>();
        load_pieces(visible_rows(a, row), s);
    } else {
        take_registers<200>();
        multiply_pieces(a, row, blockIdx.x % n_tiles * kHeads, s);
    }
#endif
}

}  // namespace

bool has_prompt_attention(const AttentionArgs& a) {
    return device_shape().has_wgmma && a.head_dim == kDims && a.n_heads % kHeads == 0 &&
           device_shape().shared_per_block >= sizeof(Room);
}

cudaError_t launch_prompt_attention(const AttentionArgs& a, cudaStream_t stream) {
    return launch(prompt_kernel, dim3(a.n_rows * (a.n_heads / kHeads)), kBlockThreads, sizeof(Room), stream,
                  a);
}

}  // namespace ds4::gpu::cuda
