#include "backend/cpu/attention_kernel.h"

#include <cmath>
#include <limits>

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_kernel.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

// scores[h * kKeyBlock + k] = scale * q[h] . keys[k]
template <std::size_t kHeads, std::size_t kKeys>
HWY_INLINE void score_tile(const float* q, const float* const* keys, std::size_t d, float scale,
                           float* scores) {
    VF sums[kHeads][kKeys];
    for (auto& of_head : sums) {
        for (VF& sum : of_head) sum = hn::Zero(DF());
    }
    const auto step = [&](const auto& load_at) HWY_ATTR {
        VF key[kKeys];
        for (std::size_t k = 0; k < kKeys; ++k) key[k] = load_at(keys[k]);
        for (std::size_t h = 0; h < kHeads; ++h) {
            const VF query = load_at(q + h * d);
            for (std::size_t k = 0; k < kKeys; ++k) sums[h][k] = hn::MulAdd(query, key[k], sums[h][k]);
        }
    };
    std::size_t i = 0;
    for (; i + kLanes <= d; i += kLanes) step([i](const float* row) HWY_ATTR { return load(row + i); });
    if (i < d) step([i, d](const float* row) HWY_ATTR { return load_part(row + i, d - i); });
    for (std::size_t h = 0; h < kHeads; ++h) {
        for (std::size_t k = 0; k < kKeys; ++k) scores[h * kKeyBlock + k] = scale * sum_lanes(sums[h][k]);
    }
}

// acc[h] += sum_k weights[h * kKeyBlock + k] * keys[k], for kVectors vectors from value i on, of which
// `count` values exist.
template <std::size_t kHeads, std::size_t kVectors>
HWY_INLINE void accumulate_tile(const float* weights, const float* const* keys, std::size_t n_keys,
                                std::size_t d, std::size_t i, float* acc) {
    const auto count = [&](std::size_t v) HWY_ATTR { return d - i - v * kLanes; };
    VF sums[kHeads][kVectors];
    for (std::size_t h = 0; h < kHeads; ++h) {
        for (std::size_t v = 0; v < kVectors; ++v) sums[h][v] = load(acc + h * d + i + v * kLanes, count(v));
    }
    for (std::size_t k = 0; k < n_keys; ++k) {
        VF key[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) key[v] = load(keys[k] + i + v * kLanes, count(v));
        for (std::size_t h = 0; h < kHeads; ++h) {
            const VF weight = hn::Set(DF(), weights[h * kKeyBlock + k]);
            for (std::size_t v = 0; v < kVectors; ++v) sums[h][v] = hn::MulAdd(weight, key[v], sums[h][v]);
        }
    }
    for (std::size_t h = 0; h < kHeads; ++h) {
        for (std::size_t v = 0; v < kVectors; ++v) store(sums[h][v], acc + h * d + i + v * kLanes, count(v));
    }
}

// Scores become weights exp(score - top) after a step of the online softmax; what is in acc is rescaled when
// the maximum moves. Places behind n_keys get the weight 0.
HWY_INLINE void weigh(float* scores, std::size_t n_keys, std::size_t d, SoftmaxState& state, float* acc) {
    for (std::size_t k = n_keys; k < kKeyBlock; ++k) scores[k] = -std::numeric_limits<float>::infinity();
    VF top_lanes = hn::Set(DF(), state.top);
    for (std::size_t k = 0; k < kKeyBlock; k += kLanes) top_lanes = hn::Max(top_lanes, load(scores + k));
    const float top = hn::GetLane(hn::MaxOfLanes(DF(), top_lanes));
    if (top > state.top) {
        const float shrink = std::exp(state.top - top);
        const VF factor = hn::Set(DF(), shrink);
        for (std::size_t i = 0; i < d; i += kLanes) {
            store(hn::Mul(load(acc + i, d - i), factor), acc + i, d - i);
        }
        state.sum *= shrink;
        state.top = top;
    }
    const VF new_top = hn::Set(DF(), state.top);
    VF sum = hn::Zero(DF());
    for (std::size_t k = 0; k < kKeyBlock; k += kLanes) {
        const VF weight = exp(hn::Sub(load(scores + k), new_top));
        sum = hn::Add(sum, weight);
        hn::StoreU(weight, DF(), scores + k);
    }
    state.sum += sum_lanes(sum);
}

template <std::size_t kHeads>
void attend_heads(const float* q, const float* const* keys, std::size_t n_keys, std::size_t d, float scale,
                  SoftmaxState* state, float* acc) {
    float scores[kHeads * kKeyBlock];
    std::size_t k = 0;
    for (; k + 2 <= n_keys; k += 2) score_tile<kHeads, 2>(q, keys + k, d, scale, scores + k);
    if (k < n_keys) score_tile<kHeads, 1>(q, keys + k, d, scale, scores + k);
    for (std::size_t h = 0; h < kHeads; ++h) weigh(scores + h * kKeyBlock, n_keys, d, state[h], acc + h * d);
    std::size_t i = 0;
    for (; i + 2 * kLanes <= d; i += 2 * kLanes) accumulate_tile<kHeads, 2>(scores, keys, n_keys, d, i, acc);
    for (; i < d; i += kLanes) accumulate_tile<kHeads, 1>(scores, keys, n_keys, d, i, acc);
}

void AttendBlock(const float* q, std::size_t n_heads, const float* const* keys, std::size_t n_keys,
                 std::size_t d, float scale, SoftmaxState* state, float* acc) {
    static_assert(kHeadTile == 4 && kKeyBlock % kLanes == 0);
    if (n_heads == 4) attend_heads<4>(q, keys, n_keys, d, scale, state, acc);
    if (n_heads == 3) attend_heads<3>(q, keys, n_keys, d, scale, state, acc);
    if (n_heads == 2) attend_heads<2>(q, keys, n_keys, d, scale, state, acc);
    if (n_heads == 1) attend_heads<1>(q, keys, n_keys, d, scale, state, acc);
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(AttendBlock);

void attend_block(const float* q, std::size_t n_heads, const float* const* keys, std::size_t n_keys,
                  std::size_t d, float scale, SoftmaxState* state, float* acc) {
    HWY_DYNAMIC_DISPATCH(AttendBlock)(q, n_heads, keys, n_keys, d, scale, state, acc);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
