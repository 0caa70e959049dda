#include "backend/cpu/attention_kernel.h"

#include <algorithm>
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

// Heads of a tile of sums: as many as the registers hold, 32 of them with AVX-512 and NEON, else 16.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM
constexpr std::size_t kScoreHeads = 4, kValueHeads = 8;
#else
constexpr std::size_t kScoreHeads = 2, kValueHeads = 4;
#endif
static_assert(kHeadTile % kScoreHeads == 0 && kHeadTile % kValueHeads == 0);

// out[k] = the sum of the lanes of v[k]
HWY_INLINE void sum_four(const VF (&v)[kKeyTile], float* out) {
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t k = 0; k < kKeyTile; ++k) out[k] = sum_lanes(v[k]);
#else
    const DF d;
    const hn::Repartition<std::uint64_t, DF> pairs;
    const auto add_pairs = [&](VF a, VF b) HWY_ATTR {
        return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
    };
    const auto ab = hn::BitCast(pairs, add_pairs(v[0], v[1]));
    const auto cd = hn::BitCast(pairs, add_pairs(v[2], v[3]));
    // Every 128-bit block: its part of the four sums.
    const VF parts = hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, ab, cd)),
                             hn::BitCast(d, hn::InterleaveUpper(pairs, ab, cd)));
    const auto fold = [](auto half, auto whole) HWY_ATTR {
        return hn::Add(hn::LowerHalf(half, whole), hn::UpperHalf(half, whole));
    };
    const hn::Half<DF> half;
    const hn::Half<hn::Half<DF>> quarter;
    if constexpr (kLanes == 16) hn::StoreU(fold(quarter, fold(half, parts)), quarter, out);
    if constexpr (kLanes == 8) hn::StoreU(fold(half, parts), half, out);
    if constexpr (kLanes == 4) hn::StoreU(parts, d, out);
#endif
}

// scores[h * kKeyBlock + k] = q[h] . keys[k] for kScoreHeads heads and kKeyTile keys
HWY_INLINE void score_tile(const float* q, const float* keys, std::size_t width, std::size_t stride,
                           float* scores) {
    VF sums[kScoreHeads][kKeyTile];
    for (auto& of_head : sums) {
        for (VF& sum : of_head) sum = hn::Zero(DF());
    }
    for (std::size_t i = 0; i < width; i += kLanes) {
        VF key[kKeyTile];
        for (std::size_t k = 0; k < kKeyTile; ++k) key[k] = load(keys + k * stride + i);
        for (std::size_t h = 0; h < kScoreHeads; ++h) {
            const VF query = load(q + h * stride + i);
            for (std::size_t k = 0; k < kKeyTile; ++k) sums[h][k] = hn::MulAdd(query, key[k], sums[h][k]);
        }
    }
    for (std::size_t h = 0; h < kScoreHeads; ++h) sum_four(sums[h], scores + h * kKeyBlock);
}

// How a block's values join what was accumulated before: acc * old_share + block * block_share.
struct Shares {
    float old_share[kHeadTile];
    float block_share[kHeadTile];
};

// Moves the running maximum and sum of a head on by a block's.
HWY_INLINE void join(float top, float sum, SoftmaxState& state, float& old_share, float& block_share) {
    const float new_top = std::max(state.top, top);
    old_share = std::exp(state.top - new_top);
    block_share = std::exp(top - new_top);
    state.sum = state.sum * old_share + sum * block_share;
    state.top = new_top;
}

// acc * old_share + block * block_share
HWY_INLINE VF join(VF acc, VF old_share, VF block, VF block_share) {
    return hn::MulAdd(block, block_share, hn::Mul(acc, old_share));
}

// Products become weights exp(scale * product - top of the block), places behind n_keys the weight 0; the
// state of the head moves on.
HWY_INLINE void weigh(float* scores, std::size_t n_keys, float scale, SoftmaxState& state, float& old_share,
                      float& block_share) {
    const std::size_t end = (n_keys + 15) / 16 * 16;
    std::fill(scores + n_keys, scores + end, -std::numeric_limits<float>::infinity());
    const VF factor = hn::Set(DF(), scale);
    VF top_lanes = hn::Mul(load(scores), factor);
    for (std::size_t k = kLanes; k < end; k += kLanes) {
        top_lanes = hn::Max(top_lanes, hn::Mul(load(scores + k), factor));
    }
    const VF top = hn::MaxOfLanes(DF(), top_lanes);
    VF sum = hn::Zero(DF());
    for (std::size_t k = 0; k < end; k += kLanes) {
        const VF weight = exp(hn::Sub(hn::Mul(load(scores + k), factor), top));
        sum = hn::Add(sum, weight);
        hn::StoreU(weight, DF(), scores + k);
    }
    join(hn::GetLane(top), sum_lanes(sum), state, old_share, block_share);
}

constexpr std::size_t kVectors = 2;  // of values, per tile of sums

// acc[h] = acc[h] * old_share[h] + block_share[h] * sum_k weights[h * kKeyBlock + k] * keys[k], for kVectors
// vectors of kValueHeads heads
HWY_INLINE void value_tile(const float* weights, const float* keys, std::size_t n_keys, std::size_t stride,
                           const float* old_share, const float* block_share, float* acc) {
    VF sums[kValueHeads][kVectors];
    for (auto& of_head : sums) {
        for (VF& sum : of_head) sum = hn::Zero(DF());
    }
    for (std::size_t k = 0; k < n_keys; ++k) {
        VF key[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) key[v] = load(keys + k * stride + v * kLanes);
        for (std::size_t h = 0; h < kValueHeads; ++h) {
            const VF weight = hn::Set(DF(), weights[h * kKeyBlock + k]);
            for (std::size_t v = 0; v < kVectors; ++v) sums[h][v] = hn::MulAdd(weight, key[v], sums[h][v]);
        }
    }
    for (std::size_t h = 0; h < kValueHeads; ++h) {
        const VF of_old = hn::Set(DF(), old_share[h]);
        const VF of_block = hn::Set(DF(), block_share[h]);
        for (std::size_t v = 0; v < kVectors; ++v) {
            float* at = acc + h * stride + v * kLanes;
            hn::StoreU(join(load(at), of_old, sums[h][v], of_block), DF(), at);
        }
    }
}

void AttendBlock(const float* q, std::size_t n_heads, const float* keys, std::size_t n_keys, std::size_t d,
                 float scale, float* scores, SoftmaxState* state, float* acc) {
    const std::size_t width = padded_width(d);
    const std::size_t stride = padded_stride(d);
    static_assert(padded_width(1) % (kVectors * kLanes) == 0 && kKeyBlock % 16 == 0);
    constexpr std::size_t kMostTiles = 64 / kHeadTile;
    for (std::size_t first = 0; first < n_heads; first += kMostTiles * kHeadTile) {
        Shares shares[kMostTiles];
        const std::size_t end = std::min(n_heads, first + kMostTiles * kHeadTile);
        for (std::size_t tile = first; tile < end; tile += kHeadTile) {
            float* of_tile = scores + tile * kKeyBlock;
            for (std::size_t k = 0; k < n_keys; k += kKeyTile) {
                for (std::size_t h = 0; h < kHeadTile; h += kScoreHeads) {
                    score_tile(q + (tile + h) * stride, keys + k * stride, width, stride,
                               of_tile + h * kKeyBlock + k);
                }
            }
            Shares& s = shares[(tile - first) / kHeadTile];
            for (std::size_t h = 0; h < kHeadTile; ++h) {
                weigh(of_tile + h * kKeyBlock, n_keys, scale, state[tile + h], s.old_share[h],
                      s.block_share[h]);
            }
        }
        // A strip of the keys stays in the first-level cache for all heads.
        for (std::size_t i = 0; i < width; i += kVectors * kLanes) {
            for (std::size_t h = first; h < end; h += kValueHeads) {
                const Shares& s = shares[(h - first) / kHeadTile];
                value_tile(scores + h * kKeyBlock, keys + i, n_keys, stride, s.old_share + h % kHeadTile,
                           s.block_share + h % kHeadTile, acc + h * stride + i);
            }
        }
    }
}

void MergeBlock(const SoftmaxState* block_state, const float* block, std::size_t n_heads, std::size_t d,
                SoftmaxState* state, float* acc) {
    for (std::size_t h = 0; h < n_heads; ++h) {
        float old_share = 0;
        float block_share = 0;
        join(block_state[h].top, block_state[h].sum, state[h], old_share, block_share);
        const VF of_old = hn::Set(DF(), old_share);
        const VF of_block = hn::Set(DF(), block_share);
        const std::size_t row = h * padded_stride(d);
        for (std::size_t i = row; i < row + padded_width(d); i += kLanes) {
            hn::StoreU(join(load(acc + i), of_old, load(block + i), of_block), DF(), acc + i);
        }
    }
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(AttendBlock);
HWY_EXPORT(MergeBlock);

void attend_block(const float* q, std::size_t n_heads, const float* keys, std::size_t n_keys, std::size_t d,
                  float scale, float* scores, SoftmaxState* state, float* acc) {
    HWY_DYNAMIC_DISPATCH(AttendBlock)(q, n_heads, keys, n_keys, d, scale, scores, state, acc);
}

void merge_block(const SoftmaxState* block_state, const float* block, std::size_t n_heads, std::size_t d,
                 SoftmaxState* state, float* acc) {
    HWY_DYNAMIC_DISPATCH(MergeBlock)(block_state, block, n_heads, d, state, acc);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
