#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/dialect.h"

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

// A lane's keys: expert e is key e / kSimdWidth of lane e % kSimdWidth.
constexpr uint32_t kKeysPerLane = kMaxExperts / kSimdWidth;

// The expert with the largest key, of equal ones the lowest; the key is used up. By one SIMD-group.
DS4_FN uint32_t take_top(Thread t, uint32_t n, DS4_LOCAL float (&key)[kKeysPerLane]) {
    float best = as_float(0xff800000u);  // -infinity
    uint32_t at = smaller(t.lane, n - 1);
    DS4_UNROLL
    for (uint32_t i = 0; i < kKeysPerLane; ++i) {
        if (i * kSimdWidth >= n) continue;
        if (key[i] <= best) continue;
        best = key[i];
        at = i * kSimdWidth + t.lane;
    }
    const float top = simd_max(t, best);
    const uint32_t lowest = n - simd_max(t, best == top ? n - at : 0u);
    DS4_UNROLL
    for (uint32_t i = 0; i < kKeysPerLane; ++i) {
        if (i * kSimdWidth + t.lane == lowest) key[i] = as_float(0xff800000u);
    }
    return lowest;
}

static_assert(kMaxUsed <= kSimdWidth);  // a lane each

// The n_used best experts of a row, the k-th in lane k. By one SIMD-group.
DS4_FN uint32_t best_experts(Thread t, DS4_ARGS RouteArgs& a, const DS4_GLOBAL float* logits) {
    float key[kKeysPerLane];
    DS4_UNROLL
    for (uint32_t i = 0; i < kKeysPerLane; ++i) {
        const uint32_t e = i * kSimdWidth + t.lane;
        key[i] = as_float(0xff800000u);
        if (e < a.n_experts) key[i] = affinity(logits[e]) + (a.bias != nullptr ? a.bias[e] : 0);
    }
    uint32_t chosen = 0;
    for (uint32_t k = 0; k < a.n_used; ++k) {
        const uint32_t top = take_top(t, a.n_experts, key);
        if (t.lane == k) chosen = top;
    }
    return chosen;
}

// Experts and weights of a row, by one SIMD-group.
DS4_FN void route_row(Thread t, DS4_ARGS RouteArgs& a, uint32_t row) {
    const DS4_GLOBAL float* logits = a.logits + static_cast<int64_t>(row) * a.n_experts;
    const bool has_slot = t.lane < a.n_used;
    uint32_t chosen = 0;
    if (a.hash == nullptr) {
        chosen = best_experts(t, a, logits);
    } else if (has_slot) {
        chosen = static_cast<uint32_t>(a.hash[static_cast<int64_t>(a.tokens[row]) * a.n_used + t.lane]);
    }
    const float mine = has_slot ? affinity(logits[chosen]) : 0;
    float sum = 0;
    for (uint32_t k = 0; k < a.n_used; ++k) sum += simd_shuffle(t, mine, k);
    const float denominator = a.normalise != 0 ? larger(sum, 6.103515625e-5f) : 1;
    if (!has_slot) return;
    const int64_t at = static_cast<int64_t>(row) * a.n_used + t.lane;
    a.expert[at] = static_cast<int32_t>(chosen);
    a.weight[at] = a.weight_scale * mine / denominator;
}

DS4_KERNEL(route, RouteArgs, NoShared) {
    route_row(t, a, t.group);
}

}  // namespace ds4::gpu::DS4_DIALECT
