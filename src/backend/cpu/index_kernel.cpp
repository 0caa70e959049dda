#include "backend/cpu/index_kernel.h"

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/index_kernel.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

// One key per lane, so that no sum goes across lanes.
constexpr std::size_t kVectors = 2;

// totals += weight[h] * max(0, q[h] . key) for kHeads heads, in the order of the heads.
template <std::size_t kHeads>
HWY_INLINE void add_heads(const float* q, const float* weight, std::size_t head_dim, const float* keys,
                          VF (&totals)[kVectors]) {
    VF dots[kHeads][kVectors];
    for (auto& of_head : dots) {
        for (VF& dot : of_head) dot = hn::Zero(DF());
    }
    for (std::size_t i = 0; i < head_dim; ++i) {
        VF key[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) key[v] = load(keys + i * kIndexKeys + v * kLanes);
        for (std::size_t h = 0; h < kHeads; ++h) {
            const VF query = hn::Set(DF(), q[h * head_dim + i]);
            for (std::size_t v = 0; v < kVectors; ++v) dots[h][v] = hn::MulAdd(query, key[v], dots[h][v]);
        }
    }
    for (std::size_t h = 0; h < kHeads; ++h) {
        const VF factor = hn::Set(DF(), weight[h]);
        for (std::size_t v = 0; v < kVectors; ++v) {
            totals[v] = hn::MulAdd(factor, hn::Max(dots[h][v], hn::Zero(DF())), totals[v]);
        }
    }
}

void IndexScores(const float* q, const float* weight, std::size_t n_heads, std::size_t head_dim,
                 const float* keys, float* scores) {
    static_assert(kIndexKeys % (kVectors * kLanes) == 0);
    for (std::size_t k = 0; k < kIndexKeys; k += kVectors * kLanes) {
        VF totals[kVectors];
        for (VF& total : totals) total = hn::Zero(DF());
        std::size_t h = 0;
        for (; h + 4 <= n_heads; h += 4)
            add_heads<4>(q + h * head_dim, weight + h, head_dim, keys + k, totals);
        for (; h < n_heads; ++h) add_heads<1>(q + h * head_dim, weight + h, head_dim, keys + k, totals);
        for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(totals[v], DF(), scores + k + v * kLanes);
    }
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(IndexScores);

void index_scores(const float* q, const float* weight, std::size_t n_heads, std::size_t head_dim,
                  const float* keys, float* scores) {
    HWY_DYNAMIC_DISPATCH(IndexScores)(q, weight, n_heads, head_dim, keys, scores);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
