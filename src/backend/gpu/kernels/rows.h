#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/dialect.h"

// The operations that take each row, or each head of it, by itself.
namespace ds4::gpu::DS4_DIALECT {

using GroupShared = GroupScratch;

// 1 / rms of x (width), the same in every thread. model.md 4.1
DS4_FN float inverse_rms(Thread t, const DS4_GLOBAL float* x, uint32_t width, float eps,
                         DS4_SHARED GroupScratch& s) {
    float squares = 0;
    for (uint32_t i = t.index; i < width; i += t.n_threads) squares = fma(x[i], x[i], squares);
    return 1.0f / sqrt(group_sum(t, squares, s) / static_cast<float>(width) + eps);
}

// w may be null.
DS4_FN void norm_row(Thread t, const DS4_GLOBAL float* x, const DS4_GLOBAL float* w, uint32_t width,
                     float eps, DS4_GLOBAL float* y, DS4_SHARED GroupScratch& s) {
    const float scale = inverse_rms(t, x, width, eps, s);
    for (uint32_t i = t.index; i < width; i += t.n_threads) {
        const float v = x[i] * scale;
        y[i] = w != nullptr ? w[i] * v : v;
    }
}

DS4_KERNEL(rms_norm, RmsNormArgs, GroupShared) {
    const int64_t at = static_cast<int64_t>(t.group) * a.width;
    norm_row(t, a.x + at, a.w, a.width, a.eps, a.y + at, s);
}

struct ArgMaxShared {
    SharedArray<float, kMaxSimds> top;
    SharedArray<uint32_t, kMaxSimds> first;  // width - index, so that the first is the largest; 0: none
};

// A thread sees its values in ascending order, so the first of equals stays.
DS4_KERNEL(arg_max, ArgMaxArgs, ArgMaxShared) {
    const DS4_GLOBAL float* x = a.x + static_cast<int64_t>(t.group) * a.width;
    float top = as_float(0xff800000u);  // -infinity
    uint32_t first = 0;
    for (uint32_t i = t.index; i < a.width; i += t.n_threads) {
        const float v = x[i];
        if (!(v > top)) continue;
        top = v;
        first = a.width - i;
    }
    const float simd_top = simd_max(t, top);
    const uint32_t simd_first = simd_max(t, top == simd_top ? first : 0u);
    if (t.lane == 0) {
        s.top[t.simd] = simd_top;
        s.first[t.simd] = simd_first;
    }
    group_barrier(t);
    if (t.index != 0) return;
    for (uint32_t i = 0; i < t.n_simds; ++i) {
        const bool is_first = s.top[i] == top && s.first[i] > first;
        if (!(s.top[i] > top) && !is_first) continue;
        top = s.top[i];
        first = s.first[i];
    }
    a.best[t.group] = first == 0 ? 0 : static_cast<int32_t>(a.width - first);
}

DS4_KERNEL(add, AddArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i >= a.y_width) return;
    a.y[static_cast<int64_t>(t.group) * a.y_width + i] +=
        a.x[static_cast<int64_t>(t.group) * a.x_width + i % a.x_width];
}

// A rotation of pairs.
struct Turn {
    float c, s;

    DS4_FN float first(float x, float y) const { return x * c - y * s; }
    DS4_FN float second(float x, float y) const { return x * s + y * c; }
};
// direction: 1, or -1 to turn back.
DS4_FN Turn turn_of(float theta, float direction) {
    return {cos(theta), direction * sin(theta)};
}

DS4_FN void rotate_pair(float theta, float direction, DS4_GLOBAL float* x) {
    const Turn turn = turn_of(theta, direction);
    const float first = x[0];
    const float second = x[1];
    x[0] = turn.first(first, second);
    x[1] = turn.second(first, second);
}

// The angle is formed in f32 as in the released code (model.md 5, D1).
DS4_KERNEL(rope, RopeArgs, NoShared) {
    const uint32_t n_pairs = a.n_dims / 2;
    const uint32_t n_heads = a.width / a.head_dim;
    DS4_GLOBAL float* row = a.x + static_cast<int64_t>(t.group) * a.width;
    const float position = static_cast<float>(a.positions[t.group]);
    for (uint32_t i = t.index; i < n_heads * n_pairs; i += t.n_threads) {
        const uint32_t pair = i % n_pairs;
        rotate_pair(position * a.frequency[pair], a.direction,
                    row + (i / n_pairs + 1) * a.head_dim - a.n_dims + 2 * pair);
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
