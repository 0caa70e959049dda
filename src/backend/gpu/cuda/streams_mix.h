#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/kernels/formats.h"

// What the kernels of hyper-connections share (model.md 4.2), for Flash: 4 streams of 4096 columns.
namespace ds4::gpu::cuda {

constexpr uint32_t kStreams = 4, kWidth = 4096;
constexpr uint32_t kMixes = kStreams * (2 + kStreams);  // pre, post, comb; at the head pre alone
constexpr uint32_t kSquares = kMixes;                   // place of the sum of squares behind the mixes
constexpr uint32_t kSums = kMixes + 1;
static_assert(kSums <= kSimdWidth);

// ---- four neighbouring weights of fn

struct F16Weights {
    static constexpr bool kSplits = false;  // TF32 holds them
    uint2 bits;
    static constexpr uint32_t kBytes = 2;
    DS4_DEVICE float4 values() const {
        return make_float4(low_half(bits.x), high_half(bits.x), low_half(bits.y), high_half(bits.y));
    }
    // Values are made when they are used: as floats the weights of a thread would not fit its registers.
    DS4_DEVICE void keep() { asm volatile("" : "+r"(bits.x), "+r"(bits.y)); }
};
struct Bf16Weights {
    static constexpr bool kSplits = false;
    uint2 bits;
    static constexpr uint32_t kBytes = 2;
    DS4_DEVICE float4 values() const {
        return make_float4(as_float(bits.x << 16), as_float(bits.x & 0xffff0000u), as_float(bits.y << 16),
                           as_float(bits.y & 0xffff0000u));
    }
    // Values are made when they are used: as floats the weights of a thread would not fit its registers.
    DS4_DEVICE void keep() { asm volatile("" : "+r"(bits.x), "+r"(bits.y)); }
};
struct F32Weights {
    static constexpr bool kSplits = true;
    float4 bits;
    static constexpr uint32_t kBytes = 4;
    DS4_DEVICE float4 values() const { return bits; }
    DS4_DEVICE void keep() {}
};

// f(Weights{}) for the type of fn.
template <class F>
auto with_weights(uint32_t type, const F& f) {
    if (type == kTypeF16) return f(F16Weights{});
    if (type == kTypeBf16) return f(Bf16Weights{});
    return f(F32Weights{});
}

// ---- numbers

DS4_DEVICE float sum_of_warp(float v) {
#pragma unroll
    for (uint32_t mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(kAllLanes, v, mask);
    return v;
}
DS4_DEVICE float sigmoid_of(float x) {
    return 1.0f / (1.0f + expf(-x));
}
// To a unit of the last place: for Sinkhorn, whose next round takes back what the last one got wrong.
DS4_DEVICE float reciprocal(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// z = post[k] y + sum_j comb[j][k] old[j] in the order of the shared body, for four columns.
DS4_DEVICE float4 expanded(float post, const float (&comb)[kStreams], float4 y,
                           const float4 (&old)[kStreams]) {
    float4 z = make_float4(post * y.x, post * y.y, post * y.z, post * y.w);
#pragma unroll
    for (uint32_t j = 0; j < kStreams; ++j) {
        z.x = __fmaf_rn(comb[j], old[j].x, z.x);
        z.y = __fmaf_rn(comb[j], old[j].y, z.y);
        z.z = __fmaf_rn(comb[j], old[j].z, z.z);
        z.w = __fmaf_rn(comb[j], old[j].w, z.w);
    }
    return z;
}

// ---- mixing

// Lane l < n_mix has scale and base of mix l.
struct MixLane {
    float scale, base;
};
DS4_DEVICE MixLane mix_lane(const HcMixArgs& a) {
    const uint32_t lane = threadIdx.x % kSimdWidth;
    if (lane >= a.n_mix) return {0, 0};
    return {a.scale[lane < kStreams ? 0 : lane < 2 * kStreams ? 1 : 2], a.base[lane]};
}

// Logit of the mix of each lane. `sum`: of the lane's mix and, in lane kSquares, of squares.
DS4_DEVICE float logit_of(const HcMixArgs& a, const MixLane& mix, float sum) {
    const float squares = __shfl_sync(kAllLanes, sum, kSquares);
    const float rho = rsqrtf(squares / static_cast<float>(kStreams * kWidth) + a.rms_eps);
    return rho * sum * mix.scale + mix.base;
}

// What the streams are weighted with, the same in every lane.
DS4_DEVICE void pre_of(const HcMixArgs& a, float logit, float (&pre)[kStreams]) {
    const float own = sigmoid_of(logit) + a.eps;
#pragma unroll
    for (uint32_t k = 0; k < kStreams; ++k) pre[k] = __shfl_sync(kAllLanes, own, k);
}
DS4_DEVICE float collapsed(const float (&pre)[kStreams], float z0, float z1, float z2, float z3) {
    return __fmaf_rn(pre[3], z3, __fmaf_rn(pre[2], z2, __fmaf_rn(pre[1], z1, pre[0] * z0)));
}

DS4_DEVICE float sum_of_four(float a, float b, float c, float d) {
    return (a + b) + (c + d);
}

// One half of a round of Sinkhorn on the factors of lines: line[i] /= line[i] * products[i] + eps.
DS4_DEVICE void normalise(float (&line)[kStreams], const float (&products)[kStreams], float eps) {
#pragma unroll
    for (uint32_t i = 0; i < kStreams; ++i) line[i] *= reciprocal(__fmaf_rn(line[i], products[i], eps));
}

// v[i % 4], without memory in between.
DS4_DEVICE float picked(const float (&v)[kStreams], uint32_t i) {
    const float even = (i & 2) != 0 ? v[2] : v[0], odd = (i & 2) != 0 ? v[3] : v[1];
    return (i & 1) != 0 ? odd : even;
}

// post and comb of a row by one warp. Every lane has the whole 4 x 4 matrix of softmaxes and the factors of
// its rows and columns, so that the rounds are arithmetic alone: about 50 cycles for each half of one.
DS4_DEVICE void mix_back(const HcMixArgs& a, float logit, uint32_t row) {
    const uint32_t lane = threadIdx.x % kSimdWidth;
    if (lane >= kStreams && lane < 2 * kStreams)
        a.post[static_cast<int64_t>(row) * kStreams + lane - kStreams] = 2 * sigmoid_of(logit);
    // Rows of comb lie in four lanes side by side, from lane 8 on.
    float top = fmaxf(logit, __shfl_xor_sync(kAllLanes, logit, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    float own = expf(logit - top);
    float sum = own + __shfl_xor_sync(kAllLanes, own, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    own = own / sum + a.eps;
    float c[kStreams][kStreams];
#pragma unroll
    for (uint32_t i = 0; i < kStreams * kStreams; ++i)
        c[i / kStreams][i % kStreams] = __shfl_sync(kAllLanes, own, 2 * kStreams + i);
    float rows[kStreams] = {1, 1, 1, 1}, columns[kStreams] = {1, 1, 1, 1};
    const auto normalise_columns = [&] {
        float products[kStreams];
#pragma unroll
        for (uint32_t k = 0; k < kStreams; ++k)
            products[k] =
                sum_of_four(rows[0] * c[0][k], rows[1] * c[1][k], rows[2] * c[2][k], rows[3] * c[3][k]);
        normalise(columns, products, a.eps);
    };
    normalise_columns();
#pragma unroll 1
    for (uint32_t i = 1; i < a.sinkhorn_iterations; ++i) {
        float products[kStreams];
#pragma unroll
        for (uint32_t j = 0; j < kStreams; ++j)
            products[j] = sum_of_four(columns[0] * c[j][0], columns[1] * c[j][1], columns[2] * c[j][2],
                                      columns[3] * c[j][3]);
        normalise(rows, products, a.eps);
        normalise_columns();
    }
    const uint32_t at = lane - 2 * kStreams;  // of the matrix
    own *= picked(rows, at / kStreams) * picked(columns, at % kStreams);
    if (at < kStreams * kStreams) a.comb[static_cast<int64_t>(row) * kStreams * kStreams + at] = own;
}

}  // namespace ds4::gpu::cuda
