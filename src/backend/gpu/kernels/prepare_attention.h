#pragma once

#include "backend/gpu/kernels/compress.h"
#include "backend/gpu/kernels/fused.h"

// Norm, rotation and rounding of a generated row's q, kv and indexer heads, and its compressors: none waits
// for another, and each alone would leave a GPU idle.
namespace ds4::gpu::DS4_DIALECT {

DS4_KERNEL(prepare_attention, PrepareAttentionArgs, HeadShared) {
    if (t.group < a.n_compressors * a.n_segments) {
        compress_segment(t, a.compress[t.group / a.n_segments], t.group % a.n_segments, s);
        return;
    }
    t.group -= a.n_compressors * a.n_segments;
    if (t.group < a.n) {
        norm_rotate(t, a.kv, s);
        return;
    }
    t.group -= a.n;
    if (t.group < a.index_groups) {
        NoShared none;
        rotate_round(t, a.index_q, none);
        return;
    }
    t.group -= a.index_groups;
    norm_rotate(t, a.q, s);
}

}  // namespace ds4::gpu::DS4_DIALECT
