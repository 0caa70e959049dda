#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/rounding.h"
#include "backend/gpu/kernels/rows.h"

// A head's row on its way through norm, rotation and rounding, in threadgroup memory, by the whole group.
// Every step begins where each thread has written its own values (i % n_threads) and ends behind a barrier.
namespace ds4::gpu::DS4_DIALECT {

struct HeadShared {
    GroupScratch group;
    SharedArray<float, kMaxHeadDim> row;
};

// w may be null. model.md 4.1
DS4_FN void norm_head(Thread t, const DS4_GLOBAL float* w, uint32_t dim, float eps,
                      DS4_SHARED HeadShared& s) {
    float squares = 0;
    for (uint32_t i = t.index; i < dim; i += t.n_threads) squares = fma(s.row[i], s.row[i], squares);
    const float scale = 1.0f / sqrt(group_sum(t, squares, s.group) / static_cast<float>(dim) + eps);
    for (uint32_t i = t.index; i < dim; i += t.n_threads) {
        const float v = s.row[i] * scale;
        s.row[i] = w != nullptr ? w[i] * v : v;
    }
    group_barrier(t);
}

// The last n_dims, for a position. model.md 5
DS4_FN void rotate_head(Thread t, uint32_t dim, uint32_t n_dims, float position,
                        const DS4_GLOBAL float* frequency, float direction, DS4_SHARED HeadShared& s) {
    for (uint32_t pair = t.index; pair < n_dims / 2; pair += t.n_threads) {
        const Turn turn = turn_of(position * frequency[pair], direction);
        const uint32_t at = dim - n_dims + 2 * pair;
        const float first = s.row[at];
        const float second = s.row[at + 1];
        s.row[at] = turn.first(first, second);
        s.row[at + 1] = turn.second(first, second);
    }
    group_barrier(t);
}

// As round_fp8_row. model.md 9.1
DS4_FN void round_head_fp8(Thread t, uint32_t dim, uint32_t n_tail, bool tail_to_f16,
                           DS4_SHARED HeadShared& s) {
    const uint32_t n = dim - n_tail;
    for (uint32_t block = t.simd; block < n / kFp8Block; block += t.n_simds) {
        const uint32_t i = block * kFp8Block + t.lane;
        const float scale = fp8_scale(t, s.row[i], s.row[i + 32]);
        s.row[i] = round_fp8(s.row[i], scale);
        s.row[i + 32] = round_fp8(s.row[i + 32], scale);
    }
    for (uint32_t i = n + t.index; i < dim && tail_to_f16; i += t.n_threads) {
        s.row[i] = f16_to_f32(f32_to_f16(s.row[i]));
    }
    group_barrier(t);
}

}  // namespace ds4::gpu::DS4_DIALECT
