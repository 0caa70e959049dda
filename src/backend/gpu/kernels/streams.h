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

// ---- expansion

// Column i of a row's streams.
DS4_FN void expand_column(DS4_ARGS HcExpandArgs& a, uint32_t row, uint32_t i) {
    const uint32_t m = a.n_streams;
    const float y = a.y[static_cast<int64_t>(row) * a.width + i];
    const DS4_GLOBAL float* post = a.post + static_cast<int64_t>(row) * m;
    const DS4_GLOBAL float* comb = a.comb + static_cast<int64_t>(row) * m * m;
    DS4_GLOBAL float* streams = a.streams + static_cast<int64_t>(row) * m * a.width + i;
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

DS4_KERNEL(hc_expand, HcExpandArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i < a.width) expand_column(a, t.group, i);
}

// ---- products with fn

// fn[v] x, or the squares of x for v = n_mix, over columns [first, first + n) of a row's streams: the same in
// every lane of the SIMD-group.
template <class A>
DS4_FN float dot_columns(Thread t, DS4_ARGS A& a, uint32_t n_mix, uint32_t v, uint32_t row, uint32_t first,
                         uint32_t n) {
    const uint32_t m = a.expand.n_streams, width = a.expand.width;
    const DS4_GLOBAL float* streams = a.expand.streams + static_cast<int64_t>(row) * m * width;
    float sum = 0;
    for (uint32_t k = 0; k < m; ++k) {
        for (uint32_t i = k * width + first + t.lane; i < k * width + first + n; i += kSimdWidth) {
            const float x = streams[i];
            const float w =
                v < n_mix ? weight_value(a.type, a.fn + static_cast<int64_t>(v) * a.row_bytes, i) : x;
            sum = fma(w, x, sum);
        }
    }
    return simd_sum(t, sum);
}

DS4_KERNEL(hc_dots, HcDotsArgs, NoShared) {
    const uint32_t first = t.group * kHcColumns, first_row = t.group_y * kHcRows;
    const uint32_t n_columns = smaller(a.expand.width - first, kHcColumns);
    const uint32_t n_rows = smaller(a.n - first_row, kHcRows);
    if (a.expand.y != nullptr) {
        for (uint32_t i = t.index; i < n_rows * n_columns; i += t.n_threads) {
            expand_column(a.expand, first_row + i / n_columns, first + i % n_columns);
        }
        group_barrier(t);
    }
    for (uint32_t v = t.simd; v <= a.n_mix; v += t.n_simds) {
        for (uint32_t row = first_row; row < first_row + n_rows; ++row) {
            const float sum = dot_columns(t, a, a.n_mix, v, row, first, n_columns);
            const int64_t slice = static_cast<int64_t>(row) * a.n_slices + t.group;
            if (t.lane == 0) a.partial[slice * (a.n_mix + 1) + v] = sum;
        }
    }
}

// ---- collapse

struct HcMixShared {
    GroupScratch group;
    SharedArray<float, kMaxStreams*(2 + kMaxStreams) + 1> mix;
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

// A softmax over each row of logits, then Sinkhorn: columns first, then rows and columns in turn. By one
// SIMD-group.
DS4_FN void mix_comb(Thread t, DS4_ARGS HcMixArgs& a, float rho, DS4_SHARED HcMixShared& s) {
    const uint32_t m = a.n_streams;
    if (t.lane < m) {
        const uint32_t row = t.lane * m;
        float top = 0;
        for (uint32_t k = 0; k < m; ++k) {
            const uint32_t at = 2 * m + row + k;
            const float v = rho * s.mix[at] * a.scale[2] + a.base[at];
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

// post and comb of the group's row, for the next expansion. By one SIMD-group.
DS4_FN void mix_back(Thread t, DS4_ARGS HcMixArgs& a, float rho, DS4_SHARED HcMixShared& s) {
    const uint32_t m = a.n_streams;
    if (t.lane < m) {
        const float v = rho * s.mix[m + t.lane] * a.scale[1] + a.base[m + t.lane];
        a.post[static_cast<int64_t>(t.group) * m + t.lane] = 2 * sigmoid(v);
    }
    mix_comb(t, a, rho, s);
    for (uint32_t i = t.lane; i < m * m; i += kSimdWidth) {
        a.comb[static_cast<int64_t>(t.group) * m * m + i] = s.comb[i];
    }
}

// The group's row, whose products with fn and squares are in s.mix. The first SIMD-group mixes post and comb
// while the others collapse the streams.
DS4_FN void collapse_row(Thread t, DS4_ARGS HcMixArgs& a, DS4_SHARED HcMixShared& s) {
    const uint32_t m = a.n_streams;
    const DS4_GLOBAL float* streams = a.streams + static_cast<int64_t>(t.group) * m * a.width;
    const float rho = 1.0f / sqrt(s.mix[a.n_mix] / static_cast<float>(m * a.width) + a.rms_eps);
    if (t.index < m) s.pre[t.index] = sigmoid(rho * s.mix[t.index] * a.scale[0] + a.base[t.index]) + a.eps;
    group_barrier(t);
    const bool mixes_back = a.post != nullptr;
    DS4_GLOBAL float* x = a.x + static_cast<int64_t>(t.group) * a.width;
    if (mixes_back && t.simd == 0) {
        mix_back(t, a, rho, s);
    } else {
        const uint32_t others = mixes_back ? kSimdWidth : 0;
        for (uint32_t i = t.index - others; i < a.width; i += t.n_threads - others) {
            float sum = 0;
            for (uint32_t k = 0; k < m; ++k) sum = fma(s.pre[k], streams[k * a.width + i], sum);
            x[i] = sum;
        }
    }
    if (a.norm == nullptr) return;
    group_barrier(t);
    norm_row(t, x, a.norm, a.width, a.norm_eps, x, s.group);
}

DS4_KERNEL(hc_mix, HcMixArgs, HcMixShared) {
    const uint32_t stride = a.n_mix + 1;
    const DS4_GLOBAL float* partial = a.partial + static_cast<int64_t>(t.group) * a.n_slices * stride;
    for (uint32_t v = t.simd; v < stride; v += t.n_simds) {
        float sum = 0;
        for (uint32_t slice = t.lane; slice < a.n_slices; slice += kSimdWidth) {
            sum += partial[slice * stride + v];
        }
        sum = simd_sum(t, sum);
        if (t.lane == 0) s.mix[v] = sum;
    }
    group_barrier(t);
    collapse_row(t, a, s);
}

DS4_KERNEL(hc_site, HcSiteArgs, HcMixShared) {
    const uint32_t width = a.expand.width, n_mix = a.mix.n_mix;
    if (a.expand.y != nullptr) {
        for (uint32_t i = t.index; i < width; i += t.n_threads) expand_column(a.expand, t.group, i);
        group_barrier(t);
    }
    for (uint32_t v = t.simd; v <= n_mix; v += t.n_simds) {
        const float sum = dot_columns(t, a, n_mix, v, t.group, 0, width);
        if (t.lane == 0) s.mix[v] = sum;
    }
    group_barrier(t);
    collapse_row(t, a.mix, s);
}

}  // namespace ds4::gpu::DS4_DIALECT
