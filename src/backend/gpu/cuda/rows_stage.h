#pragma once

#include "backend/gpu/cuda/act.h"

// Activations on their way into shared memory, in the order in which the fragments of `rows` read them.
namespace ds4::gpu::cuda {

constexpr uint32_t kRowsWarps = 16;
constexpr uint32_t kRowsThreads = 32 * kRowsWarps;

// Bytes of a column: its blocks, and padding that puts neighbours into other banks.
DS4_TILES_FN uint32_t act_column_bytes(uint32_t n_in) {
    return tiles::divide_up(n_in, kActInputs) * static_cast<uint32_t>(sizeof(ActBlock)) + 32;
}

// x (n, row_blocks) from block `first` on, n_blocks of each row.
DS4_DEVICE void stage_act(const ActBlock* x, uint32_t n, uint32_t row_blocks, uint32_t first,
                          uint32_t n_blocks, uint32_t column_bytes, uint8_t* to) {
    const uint32_t pieces = n_blocks * static_cast<uint32_t>(sizeof(ActBlock) / 16);
    for (uint32_t i = threadIdx.x; i < n * pieces; i += kRowsThreads) {
        const uint32_t column = i / pieces, piece = i % pieces;
        const auto* from = reinterpret_cast<const uint4*>(x + column * row_blocks + first);
        reinterpret_cast<uint4*>(to + column * column_bytes)[piece] = __ldcg(from + piece);
    }
}

DS4_DEVICE float4 load_f32(const float* row, uint32_t i, uint32_t n_in) {
    if (i + 4 <= n_in) return __ldcg(reinterpret_cast<const float4*>(row + i));
    return {i < n_in ? row[i] : 0, i + 1 < n_in ? row[i + 1] : 0, i + 2 < n_in ? row[i + 2] : 0, 0};
}

DS4_DEVICE float sum_of_lanes(float v) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

// A norm on the way in: w null: none; scale: 1 / rms of each column, in shared memory.
struct Norm {
    const float* w;
    const float* scale;
};

DS4_DEVICE float4 normed(float4 v, const Norm& norm, uint32_t column, uint32_t i, uint32_t n_in) {
    if (norm.w == nullptr) return v;
    const float s = norm.scale[column];
    const float4 w = load_f32(norm.w, i, n_in);
    return {v.x * s * w.x, v.y * s * w.y, v.z * s * w.z, v.w * s * w.w};
}

// scale (n) of x (n, n_in). A warp sums 128 inputs of a row at a time, whatever the number of rows: the order
// of the sum depends on n_in alone. scratch: n * ceil(n_in / 128). Contains barriers.
DS4_DEVICE void norm_scales(const float* x, uint32_t n, uint32_t n_in, float eps, float* scratch,
                            float* scale) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, chunks = tiles::divide_up(n_in, 128);
    for (uint32_t item = warp; item < n * chunks; item += kRowsWarps) {
        const float4 v = load_f32(x + item / chunks * n_in, item % chunks * 128 + 4 * lane, n_in);
        const float sum = sum_of_lanes(fmaf(v.x, v.x, v.y * v.y) + fmaf(v.z, v.z, v.w * v.w));
        if (lane == 0) scratch[item] = sum;
    }
    __syncthreads();
    if (threadIdx.x < n) {
        float sum = 0;
        for (uint32_t c = 0; c < chunks; ++c) sum += scratch[threadIdx.x * chunks + c];
        scale[threadIdx.x] = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(sum, static_cast<float>(n_in)) + eps));
    }
    __syncthreads();
}

// x (n, row_width) from column `first` on, quantised per 32. A warp takes 128 inputs of a row at a time.
DS4_DEVICE void stage_f32(const float* x, uint32_t n, uint32_t row_width, uint32_t first, uint32_t n_in,
                          const Norm& norm, uint32_t column_bytes, uint8_t* to) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t chunks = tiles::divide_up(n_in, kActInputs) * 2;
    for (uint32_t item = warp; item < n * chunks; item += kRowsWarps) {
        const uint32_t column = item / chunks, i = item % chunks * 128 + 4 * lane;
        const float4 v = normed(load_f32(x + column * row_width + first, i, n_in), norm, column, i, n_in);
        const ActScale s = act_scale(largest<8>(largest_of(v)));
        uint8_t* block = to + column * column_bytes + i / kActInputs * sizeof(ActBlock);
        *reinterpret_cast<uint32_t*>(block + i % kActInputs) = act_codes(v, s.inverse);
        if (lane % 8 == 0) {
            *reinterpret_cast<float*>(block + kActInputs + i % kActInputs / 32 * sizeof(float)) = s.scale;
        }
    }
}

// x (n, n_in) from row `first` on, as pairs of halves (split_pair) for F16 tiles: per 16 inputs, column and q
// the halves of the lane's four inputs (tiles.h), then what they leave.
DS4_DEVICE void stage_halves(const float* x, uint32_t first, uint32_t n, uint32_t n_in, const Norm& norm,
                             uint8_t* to) {
    const uint32_t pieces = tiles::divide_up(n_in, 64) * 16;  // of 4 inputs
    for (uint32_t i = threadIdx.x; i < n * pieces; i += kRowsThreads) {
        const uint32_t column = i / pieces, piece = i % pieces;
        const float4 v = normed(load_f32(x + (first + column) * n_in, 4 * piece, n_in), norm, first + column,
                                4 * piece, n_in);
        const SplitPair a = split_pair(v.x, v.y), b = split_pair(v.z, v.w);
        const uint32_t sixteen = piece / 8 * 2 + piece % 2, q = piece / 2 % 4;
        reinterpret_cast<uint4*>(to)[(sixteen * n + column) * 4 + q] = {a.high, b.high, a.low, b.low};
    }
}

}  // namespace ds4::gpu::cuda
