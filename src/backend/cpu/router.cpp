#include "backend/cpu/router.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/grain.h"

namespace ds4::cpu {
namespace {

// sqrt(softplus(z)), model.md 10
double affinity(float logit) {
    const auto z = static_cast<double>(logit);
    return std::sqrt(z > 20 ? z : std::log1p(std::exp(z)));
}

// The places of the n_top largest keys, largest first; of equal ones the lower place comes first. key is used
// up.
void take_top(float* key, std::int64_t n, std::int64_t n_top, std::int32_t* top) {
    for (std::int64_t k = 0; k < n_top; ++k) {
        const std::int64_t best = std::max_element(key, key + n) - key;
        top[k] = static_cast<std::int32_t>(best);
        key[best] = -HUGE_VALF;
    }
}

}  // namespace

void ExpertRouter::run(const Router& router, std::span<const TokenId> tokens, Rows logits,
                       const Routing& out) {
    const std::int64_t n_experts = logits.width;
    const std::int64_t n_used = out.n_used;
    const auto per_thread = static_cast<std::size_t>(n_experts);
    double* affinities = affinity_.take(static_cast<std::size_t>(pool_.size()) * per_thread);
    float* keys = key_.take(static_cast<std::size_t>(pool_.size()) * per_thread);

    const auto route_row = [&](std::int64_t r, double* p, float* key) {
        for (std::int64_t e = 0; e < n_experts; ++e) p[e] = affinity(logits.row(r)[e]);
        std::int32_t* chosen = out.expert + r * n_used;
        if (router.hash != nullptr) {
            std::copy_n(router.hash + tokens[static_cast<std::size_t>(r)] * n_used, n_used, chosen);
        } else {
            for (std::int64_t e = 0; e < n_experts; ++e) {
                key[e] = static_cast<float>(p[e]) + (router.bias ? router.bias.data[e] : 0.0F);
            }
            take_top(key, n_experts, n_used, chosen);
        }
        double sum = 0;
        for (std::int64_t k = 0; k < n_used; ++k) sum += p[chosen[k]];
        const double denominator = router.normalise ? std::max(sum, 0x1p-14) : 1.0;
        for (std::int64_t k = 0; k < n_used; ++k) {
            out.weight[r * n_used + k] =
                static_cast<float>(static_cast<double>(router.weight_scale) * p[chosen[k]] / denominator);
        }
    };

    constexpr std::int64_t kStepsPerExpert = 32;
    pool_.parallel_for(static_cast<std::size_t>(logits.n), grain_for(kStepsPerExpert * n_experts),
                       [&](std::size_t begin, std::size_t end, int member) {
                           const std::size_t mine = static_cast<std::size_t>(member) * per_thread;
                           for (std::size_t r = begin; r < end; ++r) {
                               route_row(static_cast<std::int64_t>(r), affinities + mine, keys + mine);
                           }
                       });
}

}  // namespace ds4::cpu
