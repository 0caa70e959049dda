#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/rounding.h"
#include "backend/gpu/kernels/rows.h"

// Kernels that do the work of several operations (fuse.h), with their bits.
namespace ds4::gpu::DS4_DIALECT {

// A group per head.
DS4_KERNEL(norm_rotate, NormRotateArgs, GroupShared) {
    const int64_t at = static_cast<int64_t>(t.group) * a.head_dim;
    DS4_GLOBAL float* y = a.y + at;
    norm_row(t, a.x + at, a.w, a.head_dim, a.eps, y, s);
    group_barrier(t);
    const float position = static_cast<float>(a.positions[t.group / a.n_heads]);
    for (uint32_t pair = t.index; pair < a.n_dims / 2; pair += t.n_threads) {
        rotate_pair(position * a.frequency[pair], a.direction, y + a.head_dim - a.n_dims + 2 * pair);
    }
    if (a.rounds == 0) return;
    group_barrier(t);
    round_fp8_row(t, y, a.head_dim, a.n_tail, a.tail_to_f16 != 0);
}

// A SIMD-group per head.
DS4_KERNEL(rotate_round, RotateRoundArgs, NoShared) {
    const uint32_t head = t.group * t.n_simds + t.simd;
    if (head >= a.n * a.n_heads) return;
    DS4_GLOBAL float* x = a.x + static_cast<int64_t>(head) * a.head_dim;
    const float position = static_cast<float>(a.positions[head / a.n_heads]);
    for (uint32_t pair = t.lane; pair < a.n_dims / 2; pair += kSimdWidth) {
        rotate_pair(position * a.frequency[pair], a.direction, x + a.head_dim - a.n_dims + 2 * pair);
    }
    simd_barrier(t);
    round_hadamard_fp4_head(t, x, a.head_dim, a.scale);
}

}  // namespace ds4::gpu::DS4_DIALECT
