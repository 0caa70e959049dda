#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "base/first_of_largest.h"
#include "ds4/sampling.h"
#include "engine/ranking.h"

namespace ds4 {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float clean(float logit) {
    return std::isnan(logit) ? kNever : logit;
}

TokenId argmax(std::span<const float> logits) {
    return static_cast<TokenId>(first_of_largest(logits));
}

// e^x for kLeast <= x <= 0, to 1e-7 of it. Plain arithmetic, so that it has the same bits
// everywhere and becomes vector code.
constexpr float kLeast = -87.0F;
float exp_below_zero(float x) {
    constexpr float kLog2e = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
    constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: a sum with it is rounded to an integer
    const float shifted = x * kLog2e + kShift;
    const float n = shifted - kShift;
    const float r = (x - n * kLn2High) - n * kLn2Low;
    float p = 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    const auto exponent = std::bit_cast<std::uint32_t>(shifted) << 23;  // n is in its lowest bits
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + exponent);
}

// The sum of all weights relative to the best token's, to 1e-6 of it.
double sum_of_weights(std::span<const float> logits, float top, float temperature) {
    constexpr std::size_t kLanes = 16;
    std::array<float, 32 * kLanes> weights;
    const float scale = std::min(1 / temperature, 1e30F);
    double total = 0;
    for (std::size_t first = 0; first < logits.size(); first += weights.size()) {
        const auto block = logits.subspan(first, std::min(weights.size(), logits.size() - first));
        weights.fill(kLeast);
        for (std::size_t i = 0; i < block.size(); ++i) {
            const float x = (block[i] - top) * scale;
            weights[i] = x > kLeast ? x : kLeast;  // NaN, too
        }
        // A loop of its own: where compilers see the constant they branch.
        for (float& weight : weights) weight = exp_below_zero(weight);
        std::array<float, kLanes> lanes{};
        for (std::size_t i = 0; i < weights.size(); i += kLanes) {
            for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += weights[i + k];
        }
        for (const float lane : lanes) total += static_cast<double>(lane);
    }
    return total;
}

std::uint64_t scramble(std::uint64_t x) {  // the finaliser of splitmix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

// Uniform in [0, 1): 53 bits of a hash of seed and position.
double uniform(std::uint64_t seed, std::int64_t position) {
    const std::uint64_t counter = scramble(static_cast<std::uint64_t>(position) + 0x9e3779b97f4a7c15ULL);
    return static_cast<double>(scramble(seed + 0x9e3779b97f4a7c15ULL + counter) >> 11) * 0x1p-53;
}

double log_sum_exp(std::span<const float> logits) {
    const auto top = static_cast<double>(clean(logits[static_cast<std::size_t>(argmax(logits))]));
    double sum = 0;
    for (const float l : logits) sum += std::exp(static_cast<double>(clean(l)) - top);
    return top + std::log(sum);
}

// A token's weight that changes no sum of weights: the best one's is 1.
constexpr double kLeastWeight = 0x1p-54;
constexpr double kAll = std::numeric_limits<double>::infinity();
// Tokens that are looked at first.
constexpr std::size_t kHead = 256;

// The token at `draw`, in [0, 1), of the tokens up to `kept`.
TokenId draw_from(Ranking& ranking, const Ranking::Place& kept, double draw) {
    // Beyond the target: a token of no width is never hit.
    const double target = std::nextafter(draw * kept.sum, kAll);
    return ranking.find(target, kept.n).id;
}

}  // namespace

TokenId sample(std::span<const float> logits, const Sampling& s, std::int64_t position) {
    if (s.temperature <= 0) return argmax(logits);
    const BlockMaxima maxima(logits);
    const float top = maxima.top();
    if (!std::isfinite(top)) return argmax(logits);

    const Weight weight(top, s.temperature);
    const bool has_top_k = s.top_k > 0 && static_cast<std::size_t>(s.top_k) < logits.size();
    const bool has_top_p = s.top_p < 1;
    const bool has_min_p = s.min_p > 0;
    const double draw = uniform(s.seed, position);
    const float heavy = weight.logit_of(kLeastWeight);
    const double min_p = std::clamp(static_cast<double>(s.min_p), kLeastWeight, 1.0);
    const float least = weight.logit_of(min_p);

    if (has_top_k) {
        const auto top_k = static_cast<std::size_t>(s.top_k);
        // top_p is a share of all that top_k keeps, also of what min_p cuts.
        Ranking ranking(maxima, weight, std::max(has_top_p ? heavy : least, maxima.reached_by(top_k)));
        const std::size_t n_kept =
            has_top_p && has_min_p ? std::min(top_k, maxima.count_above(least)) : top_k;
        const double nucleus =
            has_top_p ? static_cast<double>(s.top_p) * ranking.find(kAll, top_k).sum : kAll;
        return draw_from(ranking, ranking.find(nucleus, n_kept), draw);
    }
    if (!has_top_p && has_min_p) {
        Ranking ranking(maxima, weight, least);
        return draw_from(ranking, {0, ranking.size(), ranking.total()}, draw);
    }
    // Mostly the best few tokens are all that is looked at.
    const double total = sum_of_weights(logits, top, s.temperature);
    const double nucleus = static_cast<double>(s.top_p) * total;
    {
        Ranking head(maxima, weight, std::max(least, maxima.reached_by(kHead)));
        if (has_top_p && head.total() >= nucleus) return draw_from(head, head.find(nucleus), draw);
        if (!has_top_p && head.total() > draw * total) return draw_from(head, {0, head.size(), total}, draw);
    }
    Ranking ranking(maxima, weight, least);
    if (has_top_p) return draw_from(ranking, ranking.find(nucleus), draw);
    const double sum = draw * total < ranking.total() ? total : ranking.total();
    return draw_from(ranking, {0, ranking.size(), sum}, draw);
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int k) {
    const double norm = log_sum_exp(logits);
    const auto logit = [&](TokenId id) { return clean(logits[static_cast<std::size_t>(id)]); };
    std::vector<TokenId> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const std::size_t n = std::min(logits.size(), static_cast<std::size_t>(std::max(k, 0)));
    std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n), ids.end(),
                      [&](TokenId a, TokenId b) {
                          const float la = logit(a), lb = logit(b);
                          return la != lb ? la > lb : a < b;
                      });
    std::vector<TokenLogprob> out;
    for (std::size_t i = 0; i < n; ++i)
        out.push_back({ids[i], static_cast<float>(static_cast<double>(logit(ids[i])) - norm)});
    return out;
}

float logprob(std::span<const float> logits, TokenId id) {
    return static_cast<float>(static_cast<double>(clean(logits[static_cast<std::size_t>(id)])) -
                              log_sum_exp(logits));
}

}  // namespace ds4
