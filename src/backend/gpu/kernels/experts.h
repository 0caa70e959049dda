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

struct RouteShared {
    SharedArray<float, kMaxExperts> affinity, key;
    SharedArray<uint32_t, kMaxExperts> chosen;
};

// The expert with the largest key, of equal ones the lowest; the key is used up. By one SIMD-group.
DS4_FN uint32_t take_top(Thread t, uint32_t n, DS4_SHARED RouteShared& s) {
    float best = as_float(0xff800000u);  // -infinity
    uint32_t at = smaller(t.lane, n - 1);
    for (uint32_t e = t.lane; e < n; e += kSimdWidth) {
        if (s.key[e] <= best) continue;
        best = s.key[e];
        at = e;
    }
    const float top = simd_max(t, best);
    const uint32_t lowest = n - simd_max(t, best == top ? n - at : 0u);
    simd_barrier(t);
    if (t.lane == 0) s.key[lowest] = as_float(0xff800000u);
    simd_barrier(t);
    return lowest;
}

// sqrt(softplus(z))
DS4_FN float affinity(float z) {
    return sqrt(z > 20 ? z : log1p(exp(z)));
}

DS4_KERNEL(route, RouteArgs, RouteShared) {
    const DS4_GLOBAL float* logits = a.logits + static_cast<int64_t>(t.group) * a.n_experts;
    for (uint32_t e = t.lane; e < a.n_experts; e += kSimdWidth) {
        s.affinity[e] = affinity(logits[e]);
        s.key[e] = s.affinity[e] + (a.bias != nullptr ? a.bias[e] : 0);
    }
    simd_barrier(t);
    if (a.hash != nullptr) {
        const DS4_GLOBAL int32_t* row = a.hash + static_cast<int64_t>(a.tokens[t.group]) * a.n_used;
        for (uint32_t k = t.lane; k < a.n_used; k += kSimdWidth) s.chosen[k] = static_cast<uint32_t>(row[k]);
    } else {
        for (uint32_t k = 0; k < a.n_used; ++k) {
            const uint32_t top = take_top(t, a.n_experts, s);
            if (t.lane == 0) s.chosen[k] = top;
        }
    }
    simd_barrier(t);
    float sum = 0;
    for (uint32_t k = 0; k < a.n_used; ++k) sum += s.affinity[s.chosen[k]];
    const float denominator = a.normalise != 0 ? larger(sum, 6.103515625e-5f) : 1;
    for (uint32_t k = t.lane; k < a.n_used; k += kSimdWidth) {
        const int64_t at = static_cast<int64_t>(t.group) * a.n_used + k;
        a.expert[at] = static_cast<int32_t>(s.chosen[k]);
        a.weight[at] = a.weight_scale * s.affinity[s.chosen[k]] / denominator;
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
