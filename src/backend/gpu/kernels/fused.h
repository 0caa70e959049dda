#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/head_row.h"

// Kernels that do the work of several operations (fuse.h), with their bits.
namespace ds4::gpu::DS4_DIALECT {

// A group per head.
DS4_KERNEL(norm_rotate, NormRotateArgs, HeadShared) {
    const int64_t at = static_cast<int64_t>(t.group) * a.head_dim;
    for (uint32_t i = t.index; i < a.head_dim; i += t.n_threads) s.row[i] = a.x[at + i];
    norm_head(t, a.w, a.head_dim, a.eps, s);
    const float position = static_cast<float>(a.positions[t.group / a.n_heads]);
    rotate_head(t, a.head_dim, a.n_dims, position, a.frequency, a.direction, s);
    if (a.rounds != 0) round_head_fp8(t, a.head_dim, a.n_tail, a.tail_to_f16 != 0, s);
    for (uint32_t i = t.index; i < a.head_dim; i += t.n_threads) a.y[at + i] = s.row[i];
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
