#pragma once

#include "backend/gpu/kernels/act_blocks.h"
#include "backend/gpu/kernels/experts.h"

namespace ds4::gpu::DS4_DIALECT {

struct PrepareExpertsShared {
    RouteShared route;
    SharedArray<int32_t, kMaxListPairs> expert;
    SharedArray<uint32_t, kMaxListPairs> rank;  // among the pairs of the same expert
    SharedArray<uint32_t, kMaxSimds> n_entries;
};

// The list of the experts chosen. Every eighth pair of an expert begins an entry (of a step with fewer rows,
// every n-th: should a row name an expert twice, an entry still has no more pairs than the kernels have
// columns); an entry's place is the number of those of lower experts, and those of its own before it.
DS4_FN void list_experts(Thread t, DS4_ARGS PrepareExpertsArgs& a, DS4_SHARED PrepareExpertsShared& s) {
    const uint32_t most = a.n < 8 ? a.n : 8;  // pairs of an entry
    for (uint32_t p = t.index; p < a.n_pairs; p += t.n_threads) s.expert[p] = a.route.expert[p];
    group_barrier(t);
    for (uint32_t p = t.index; p < a.n_pairs; p += t.n_threads) {
        uint32_t rank = 0;
        for (uint32_t other = 0; other < p; ++other) rank += s.expert[other] == s.expert[p] ? 1 : 0;
        s.rank[p] = rank;
    }
    group_barrier(t);
    for (uint32_t p = t.index; p < a.n_pairs; p += t.n_threads) {
        const int32_t expert = s.expert[p];
        if (expert < 0) continue;
        const uint32_t rank = s.rank[p];
        uint32_t place = rank / most, n = 0;
        for (uint32_t other = 0; other < a.n_pairs; ++other) {
            const int32_t e = s.expert[other];
            if (e >= 0 && e < expert && s.rank[other] % most == 0) ++place;
            if (e == expert && s.rank[other] / most == rank / most) ++n;
        }
        DS4_GLOBAL ExpertEntry& entry = a.list->entry[place];
        entry.pair[rank % most] = static_cast<int32_t>(p);
        if (rank % most != 0) continue;
        entry.expert = expert;
        entry.n = static_cast<int32_t>(n);
    }
    uint32_t n_mine = 0;
    for (uint32_t p = t.index; p < a.n_pairs; p += t.n_threads) {
        n_mine += s.expert[p] >= 0 && s.rank[p] % most == 0 ? 1 : 0;
    }
    n_mine = simd_sum(t, n_mine);
    if (t.lane == 0) s.n_entries[t.simd] = n_mine;
    group_barrier(t);
    if (t.index != 0) return;
    uint32_t n_entries = 0;
    for (uint32_t i = 0; i < t.n_simds; ++i) n_entries += s.n_entries[i];
    a.list->n_entries = static_cast<int32_t>(n_entries);
}

DS4_KERNEL(prepare_experts, PrepareExpertsArgs, PrepareExpertsShared) {
    if (t.group == 0) {
        if (a.route.logits != nullptr) {
            const uint32_t at_once = smaller(kRoutedAtOnce, t.n_simds);
            for (uint32_t row = 0; row < a.n; row += at_once) {
                route_rows(t, a.route, row, smaller(at_once, a.n - row), s.route);
                group_barrier(t);
            }
        }
        list_experts(t, a, s);
        return;
    }
    const uint32_t block = (t.group - 1) * t.n_simds + t.simd;
    if (block >= a.n * (a.n_in / kActInputs)) return;
    store_block(t, a.x + static_cast<int64_t>(block) * kActInputs, a.act[block],
                a.sums + block * (kActInputs / kSumInputs));
}

}  // namespace ds4::gpu::DS4_DIALECT
