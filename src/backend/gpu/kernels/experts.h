#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/ordered.h"

// Routing and activation of the experts, model.md 10.
namespace ds4::gpu::DS4_DIALECT {

DS4_KERNEL(swiglu, SwigluArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i >= a.width) return;
    const int64_t at = static_cast<int64_t>(t.group) * a.width + i;
    float g = a.gate[at];
    float u = a.up[at];
    if (a.clamp > 1e-6f) {
        g = g > a.clamp ? a.clamp : g;
        u = u > a.clamp ? a.clamp : u < -a.clamp ? -a.clamp : u;
    }
    // Beyond 88 exp overflows; silu is zero to 36 digits there.
    const float silu = g / (1.0f + exp(-g > 88.0f ? 88.0f : -g));
    const float v = silu * u;
    a.gate[at] = a.weight != nullptr ? v * a.weight[t.group] : v;
}

// sqrt(softplus(z))
DS4_FN float affinity(float z) {
    return sqrt(z > 20 ? z : log1p(exp(z)));
}

constexpr uint32_t kRoutedAtOnce = 16;  // rows of a group

struct RouteShared {
    SharedArray<uint32_t, kRoutedAtOnce * kMaxExperts> key;  // ordered(); 0: used up
};

// Which threads of a group route which of its rows: some SIMD-groups each.
struct RouteTeam {
    uint32_t row;  // of those at once
    uint32_t index, n_threads;
};
DS4_FN RouteTeam route_team(Thread t, uint32_t n_rows) {
    const uint32_t rows = smaller(smaller(n_rows, kRoutedAtOnce), t.n_simds);
    const uint32_t simds = t.n_simds / rows;
    return {t.simd / simds, t.simd % simds * kSimdWidth + t.lane, simds * kSimdWidth};
}

// The expert with the largest key, of equal ones the lowest; the key is used up. By one SIMD-group.
DS4_FN uint32_t take_top(Thread t, uint32_t n, uint32_t keys, DS4_SHARED RouteShared& s) {
    uint32_t best = 0;
    uint32_t at = smaller(t.lane, n - 1);
    for (uint32_t e = t.lane; e < n; e += kSimdWidth) {
        const uint32_t key = s.key[keys + e];
        at = key > best ? e : at;
        best = larger(best, key);
    }
    const uint32_t top = simd_max(t, best);
    const uint32_t lowest = n - simd_max(t, best == top ? n - at : 0u);
    simd_barrier(t);
    if (t.lane == 0) s.key[keys + lowest] = 0;
    simd_barrier(t);
    return lowest;
}

// Routes rows [first, first + n) of which there are at most kRoutedAtOnce and one per SIMD-group, by the
// whole group.
DS4_FN void route_rows(Thread t, DS4_ARGS RouteArgs& a, uint32_t first, uint32_t n,
                       DS4_SHARED RouteShared& s) {
    const RouteTeam team = route_team(t, n);
    const bool has_row = team.row < n;
    const uint32_t row = first + team.row;
    const DS4_GLOBAL float* logits = a.logits + static_cast<int64_t>(row) * a.n_experts;
    if (has_row && a.hash == nullptr) {
        for (uint32_t e = team.index; e < a.n_experts; e += team.n_threads) {
            const float key = affinity(logits[e]) + (a.bias != nullptr ? a.bias[e] : 0);
            s.key[team.row * kMaxExperts + e] = key == key ? ordered(key + 0.0f) : 0;  // NaN is last
        }
    }
    group_barrier(t);
    if (!has_row || team.index >= kSimdWidth) return;
    const bool has_slot = team.index < a.n_used;
    uint32_t chosen = 0;
    if (a.hash == nullptr) {
        for (uint32_t k = 0; k < a.n_used; ++k) {
            const uint32_t top = take_top(t, a.n_experts, team.row * kMaxExperts, s);
            if (t.lane == k) chosen = top;
        }
    } else if (has_slot) {
        chosen = static_cast<uint32_t>(a.hash[static_cast<int64_t>(a.tokens[row]) * a.n_used + t.lane]);
    }
    const float mine = has_slot ? affinity(logits[chosen]) : 0;
    float sum = 0;
    for (uint32_t k = 0; k < a.n_used; ++k) sum += simd_shuffle(t, mine, k);
    const float denominator = a.normalise != 0 ? larger(sum, 6.103515625e-5f) : 1;
    if (!has_slot) return;
    const int64_t at = static_cast<int64_t>(row) * a.n_used + team.index;
    a.expert[at] = static_cast<int32_t>(chosen);
    a.weight[at] = a.weight_scale * mine / denominator;
}

static_assert(kMaxUsed <= kSimdWidth);  // a lane each

DS4_KERNEL(route, RouteArgs, RouteShared) {
    route_rows(t, a, t.group, 1, s);
}

}  // namespace ds4::gpu::DS4_DIALECT
