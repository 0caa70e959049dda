#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/formats.h"
#include "backend/gpu/kernels/rows.h"

// Embedding and hyper-connections, model.md 4.2. Streams (n, M * E) are stream-major.
namespace ds4::gpu::DS4_DIALECT {

DS4_KERNEL(embed, EmbedArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i >= a.width) return;
    const DS4_GLOBAL uint8_t* row = a.table + a.tokens[t.group] * a.row_bytes;
    const float v = weight_value(a.type, row, i);
    DS4_GLOBAL float* streams = a.streams + static_cast<int64_t>(t.group) * a.n_streams * a.width;
    for (uint32_t m = 0; m < a.n_streams; ++m) streams[m * a.width + i] = v;
}

struct HcMixShared {
    GroupScratch group;
    SharedArray<float, kMaxStreams> pre;
    SharedArray<float, kMaxStreams * kMaxStreams> comb;
};

DS4_FN float sigmoid(float x) {
    return 1.0f / (1.0f + exp(-x));
}

// Divides each line of comb by its sum; entry b of line t.lane is comb[t.lane * line + b * step]. By one
// SIMD-group.
DS4_FN void normalise_lines(Thread t, uint32_t n, uint32_t line, uint32_t step, float eps,
                            DS4_SHARED HcMixShared& s) {
    if (t.lane < n) {
        float sum = eps;
        for (uint32_t b = 0; b < n; ++b) sum += s.comb[t.lane * line + b * step];
        for (uint32_t b = 0; b < n; ++b) s.comb[t.lane * line + b * step] /= sum;
    }
    simd_barrier(t);
}

// A softmax over each row of logits, then Sinkhorn: columns first, then rows and columns in turn. affine(k) =
// rho * mix[k] * scale[2] + base[k]. By one SIMD-group.
DS4_FN void mix_comb(Thread t, DS4_ARGS HcMixArgs& a, const DS4_GLOBAL float* mix, float rho,
                     DS4_SHARED HcMixShared& s) {
    const uint32_t m = a.n_streams;
    if (t.lane < m) {
        const uint32_t row = t.lane * m;
        float top = 0;
        for (uint32_t k = 0; k < m; ++k) {
            const uint32_t at = 2 * m + row + k;
            const float v = rho * mix[at] * a.scale[2] + a.base[at];
            s.comb[row + k] = v;
            top = k == 0 ? v : larger(top, v);
        }
        float sum = 0;
        for (uint32_t k = 0; k < m; ++k) sum += s.comb[row + k] = exp(s.comb[row + k] - top);
        for (uint32_t k = 0; k < m; ++k) s.comb[row + k] = s.comb[row + k] / sum + a.eps;
    }
    simd_barrier(t);
    normalise_lines(t, m, 1, m, a.eps, s);
    for (uint32_t i = 1; i < a.sinkhorn_iterations; ++i) {
        normalise_lines(t, m, m, 1, a.eps, s);
        normalise_lines(t, m, 1, m, a.eps, s);
    }
}

DS4_KERNEL(hc_mix, HcMixArgs, HcMixShared) {
    const uint32_t m = a.n_streams;
    const DS4_GLOBAL float* streams = a.streams + static_cast<int64_t>(t.group) * m * a.width;
    const DS4_GLOBAL float* mix = a.mix + static_cast<int64_t>(t.group) * a.n_mix;
    const float rho = inverse_rms(t, streams, m * a.width, a.rms_eps, s.group);
    if (t.index < m) s.pre[t.index] = sigmoid(rho * mix[t.index] * a.scale[0] + a.base[t.index]) + a.eps;
    if (a.post != nullptr && t.simd == 0) {
        if (t.lane < m) {
            const float v = rho * mix[m + t.lane] * a.scale[1] + a.base[m + t.lane];
            a.post[static_cast<int64_t>(t.group) * m + t.lane] = 2 * sigmoid(v);
        }
        mix_comb(t, a, mix, rho, s);
        for (uint32_t i = t.lane; i < m * m; i += kSimdWidth) {
            a.comb[static_cast<int64_t>(t.group) * m * m + i] = s.comb[i];
        }
    }
    group_barrier(t);
    DS4_GLOBAL float* x = a.x + static_cast<int64_t>(t.group) * a.width;
    for (uint32_t i = t.index; i < a.width; i += t.n_threads) {
        float sum = 0;
        for (uint32_t k = 0; k < m; ++k) sum = fma(s.pre[k], streams[k * a.width + i], sum);
        x[i] = sum;
    }
    if (a.norm == nullptr) return;
    group_barrier(t);
    norm_row(t, x, a.norm, a.width, a.norm_eps, x, s.group);
}

DS4_KERNEL(hc_expand, HcExpandArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i >= a.width) return;
    const uint32_t m = a.n_streams;
    const float y = a.y[static_cast<int64_t>(t.group) * a.width + i];
    const DS4_GLOBAL float* post = a.post + static_cast<int64_t>(t.group) * m;
    const DS4_GLOBAL float* comb = a.comb + static_cast<int64_t>(t.group) * m * m;
    DS4_GLOBAL float* streams = a.streams + static_cast<int64_t>(t.group) * m * a.width + i;
    float old[kMaxStreams];
    DS4_UNROLL
    for (uint32_t j = 0; j < kMaxStreams; ++j) old[j] = j < m ? streams[j * a.width] : 0;
    for (uint32_t k = 0; k < m; ++k) {
        float sum = post[k] * y;
        DS4_UNROLL
        for (uint32_t j = 0; j < kMaxStreams; ++j) {
            if (j < m) sum = fma(comb[j * m + k], old[j], sum);
        }
        streams[k * a.width] = sum;
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
