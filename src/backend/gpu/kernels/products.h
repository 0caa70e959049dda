#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/activations.h"
#include "backend/gpu/kernels/formats.h"

// The reference products: a SIMD-group per weight row, which it reads once for up to kColumns activation
// rows. Lanes take groups of 32 inputs (int8 formats) or single inputs (float formats) in turn; their sums
// meet in a butterfly. A column's sum is the same whatever the other columns are. Devices with matrix units
// have faster ones of their own.
namespace ds4::gpu::DS4_DIALECT {

constexpr uint32_t kColumns = 8;

struct F32 {
    static constexpr uint32_t kBytes = 4;
    static DS4_FN float load(const DS4_GLOBAL uint8_t* p) { return load_f32(p); }
};
struct F16 {
    static constexpr uint32_t kBytes = 2;
    static DS4_FN float load(const DS4_GLOBAL uint8_t* p) { return load_f16(p); }
};
struct Bf16 {
    static constexpr uint32_t kBytes = 2;
    static DS4_FN float load(const DS4_GLOBAL uint8_t* p) { return load_bf16(p); }
};

// A weight row and the activation rows it meets.
struct DotArgs {
    const DS4_GLOBAL uint8_t* w;
    const DS4_GLOBAL uint8_t* acts;  // the first of n_columns, stride bytes apart
    int64_t stride;
    uint32_t n_in, n_columns;
};

// This lane's share of each column's dot product, float weights with f32 activations.
template <class Format>
struct DotF32 {
    static DS4_FN void run(Thread t, const DS4_LOCAL DotArgs& d, DS4_LOCAL float* sums) {
        for (uint32_t i = t.lane; i < d.n_in; i += kSimdWidth) {
            const float w = Format::load(d.w + i * Format::kBytes);
            DS4_UNROLL
            for (uint32_t c = 0; c < kColumns; ++c) {
                if (c < d.n_columns) sums[c] = fma(w, load_f32(d.acts + c * d.stride + 4 * i), sums[c]);
            }
        }
    }
};

// One group of 32 with one activation row. Integers are exact; model.md 14.8
template <class Format>
DS4_FN float add_group(const DS4_LOCAL WeightGroup& w, ActivationRow act, uint32_t g, float sum) {
    int32_t dot = 0;
    DS4_UNROLL
    for (uint32_t i = 0; i < 8; ++i) dot = dot4(w.codes[i], act.codes(8 * g + i), dot);
    const float scale = Format::kIsK ? act.scale_of_256(g / 8) : act.scale_of_32(g);
    sum = fma(static_cast<float>(dot * w.factor), w.d * scale, sum);
    if (!Format::kHasMinimum) return sum;
    const int32_t minima = w.minimum[0] * act.sum_of_16(2 * g) + w.minimum[1] * act.sum_of_16(2 * g + 1);
    return fma(static_cast<float>(minima), -(w.dmin * scale), sum);
}

template <class Format>
struct DotInt8 {
    static DS4_FN void run(Thread t, const DS4_LOCAL DotArgs& d, DS4_LOCAL float* sums) {
        for (uint32_t g = t.lane; g < d.n_in / 32; g += kSimdWidth) {
            const WeightGroup w = Format::group(d.w, g);
            DS4_UNROLL
            for (uint32_t c = 0; c < kColumns; ++c) {
                if (c < d.n_columns)
                    sums[c] = add_group<Format>(w, {d.acts + c * d.stride, d.n_in}, g, sums[c]);
            }
        }
    }
};

template <class Dot>
DS4_FN void dot_product(Thread t, DS4_ARGS MatmulArgs& a) {
    const uint32_t o = t.group * t.n_simds + t.simd;
    if (o >= a.n_out) return;
    const uint32_t first = t.group_y * kColumns;
    const uint32_t n_columns = smaller(kColumns, a.n - first);
    const uint32_t input = o / (a.n_out / a.n_groups);
    const int64_t stride = static_cast<int64_t>(a.n_groups) * a.act_stride;
    const DotArgs d = {a.w + o * a.row_bytes,
                       a.acts + first * stride + static_cast<int64_t>(input) * a.act_stride, stride, a.n_in,
                       n_columns};
    float sums[kColumns] = {};
    Dot::run(t, d, sums);
    DS4_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) {
        if (c >= n_columns) continue;
        const float sum = simd_sum(t, sums[c]);
        if (t.lane == 0) a.y[static_cast<int64_t>(first + c) * a.n_out + o] = sum;
    }
}

template <class Dot>
DS4_FN void expert_dot_product(Thread t, DS4_ARGS ExpertProductArgs& a) {
    const uint32_t o = t.group * t.n_simds + t.simd;
    if (o >= a.n_out) return;
    const uint32_t pair = t.group_y;
    const int64_t row = static_cast<int64_t>(a.expert[pair]) * a.n_out + o;
    const DotArgs d = {a.w + row * a.row_bytes,
                       a.acts + static_cast<int64_t>(pair / a.pairs_per_act) * a.act_stride, 0, a.n_in, 1};
    float sums[kColumns] = {};
    Dot::run(t, d, sums);
    const float sum = simd_sum(t, sums[0]);
    if (t.lane == 0) a.y[static_cast<int64_t>(pair) * a.n_out + o] = sum;
}

#define DS4_PRODUCTS(name, Dot)                                      \
    DS4_KERNEL(product_##name, MatmulArgs, NoShared) {               \
        dot_product<Dot>(t, a);                                      \
    }                                                                \
    DS4_KERNEL(expert_product_##name, ExpertProductArgs, NoShared) { \
        expert_dot_product<Dot>(t, a);                               \
    }

DS4_PRODUCTS(f32, DotF32<F32>)
DS4_PRODUCTS(f16, DotF32<F16>)
DS4_PRODUCTS(bf16, DotF32<Bf16>)
DS4_PRODUCTS(q8_0, DotInt8<Q8_0>)
DS4_PRODUCTS(q2_k, DotInt8<Q2K>)
DS4_PRODUCTS(q4_k, DotInt8<Q4K>)
DS4_PRODUCTS(iq2_xxs, DotInt8<Iq2Xxs>)
DS4_PRODUCTS(mxfp4, DotInt8<Mxfp4>)
#undef DS4_PRODUCTS

DS4_KERNEL(sum_slots, SumSlotsArgs, NoShared) {
    const uint32_t i = t.group_y * t.n_threads + t.index;
    if (i >= a.width) return;
    const DS4_GLOBAL float* x = a.x + static_cast<int64_t>(t.group) * a.n_used * a.width + i;
    float sum = x[0];
    for (uint32_t k = 1; k < a.n_used; ++k) sum += x[static_cast<int64_t>(k) * a.width];
    a.y[static_cast<int64_t>(t.group) * a.width + i] = sum;
}

}  // namespace ds4::gpu::DS4_DIALECT
