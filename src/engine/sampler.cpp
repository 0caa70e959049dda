#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "base/first_of_largest.h"
#include "ds4/sampling.h"

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

// A thread's memory for its choices, kept: a decoded token should cost no allocation.
struct Scratch {
    std::vector<TokenId> ids;
    std::vector<double> cumulative;
};
Scratch& scratch() {
    thread_local Scratch memory;
    return memory;
}

// Candidates in the order of their chances, sorted only as far as somebody looks: a vocabulary of 129,280
// need not be sorted to find the few tokens that matter. One at a time per thread.
class Ranking {
  public:
    explicit Ranking(std::span<const float> logits) : logits_(logits), ids_(scratch().ids) {
        ids_.resize(logits.size());
        std::iota(ids_.begin(), ids_.end(), 0);
    }
    // Only those whose logit is at least top + depth.
    Ranking(std::span<const float> logits, double top, double depth) : logits_(logits), ids_(scratch().ids) {
        ids_.clear();
        ids_.reserve(logits.size());
        constexpr std::size_t kBlock = 64;
        for (std::size_t first = 0; first < logits.size(); first += kBlock) {
            const auto block = logits.subspan(first, std::min(kBlock, logits.size() - first));
            float best = kNever;
            for (const float l : block) best = l > best ? l : best;
            if (!(static_cast<double>(best) - top >= depth)) continue;
            for (std::size_t i = 0; i < block.size(); ++i) {
                if (static_cast<double>(block[i]) - top >= depth)
                    ids_.push_back(static_cast<TokenId>(first + i));
            }
        }
    }

    std::size_t size() const { return ids_.size(); }
    // rank < size()
    TokenId operator[](std::size_t rank) {
        while (rank >= sorted_) sort_more();
        return ids_[rank];
    }

  private:
    void sort_more() {
        const std::size_t next = std::min(ids_.size(), std::max<std::size_t>(64, sorted_ * 4));
        const auto better = [&](TokenId a, TokenId b) {
            const float la = clean(logits_[static_cast<std::size_t>(a)]);
            const float lb = clean(logits_[static_cast<std::size_t>(b)]);
            return la != lb ? la > lb : a < b;
        };
        std::partial_sort(ids_.begin() + static_cast<std::ptrdiff_t>(sorted_),
                          ids_.begin() + static_cast<std::ptrdiff_t>(next), ids_.end(), better);
        sorted_ = next;
    }

    std::span<const float> logits_;
    std::vector<TokenId>& ids_;
    std::size_t sorted_ = 0;
};

double log_sum_exp(std::span<const float> logits) {
    const auto top = static_cast<double>(clean(logits[static_cast<std::size_t>(argmax(logits))]));
    double sum = 0;
    for (const float l : logits) sum += std::exp(static_cast<double>(clean(l)) - top);
    return top + std::log(sum);
}

}  // namespace

TokenId sample(std::span<const float> logits, const Sampling& s, std::int64_t position) {
    const TokenId best = argmax(logits);
    const auto top = static_cast<double>(clean(logits[static_cast<std::size_t>(best)]));
    if (s.temperature <= 0 || !std::isfinite(top)) return best;

    // Weights relative to the best token's, so that it weighs 1.
    const auto weight = [&](TokenId id) {
        const auto logit = static_cast<double>(clean(logits[static_cast<std::size_t>(id)]));
        return std::exp((logit - top) / static_cast<double>(s.temperature));
    };
    const bool has_top_k = s.top_k > 0 && static_cast<std::size_t>(s.top_k) < logits.size();
    const bool has_top_p = s.top_p < 1;
    // What min_p cuts need not be looked at, with some room for rounding; but top_p is a share of all that
    // top_k keeps.
    const bool is_cut = s.min_p > 0 && !(has_top_k && has_top_p);
    const double depth =
        std::min(0.0, std::log(static_cast<double>(s.min_p)) - 1e-6) * static_cast<double>(s.temperature);
    Ranking ranking = is_cut ? Ranking(logits, top, depth) : Ranking(logits);
    std::size_t n = ranking.size();
    if (has_top_k) n = std::min(n, static_cast<std::size_t>(s.top_k));

    // Where nothing is cut, only the beginning of the ranking up to the token that is drawn is looked at.
    const bool is_whole = !has_top_k && !has_top_p && s.min_p <= 0;
    double total = 0;
    if (has_top_p && has_top_k) {
        for (std::size_t i = 0; i < n; ++i) total += weight(ranking[i]);
    } else if (has_top_p || is_whole) {
        total = sum_of_weights(logits, static_cast<float>(top), s.temperature);
    }
    const double nucleus = static_cast<double>(s.top_p) * total;
    const double draw = uniform(s.seed, position);
    std::vector<double>& cumulative = scratch().cumulative;  // of the kept tokens
    cumulative.clear();
    cumulative.reserve(logits.size());
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double w = weight(ranking[i]);
        if (w == 0 || (i > 0 && w < static_cast<double>(s.min_p))) break;
        cumulative.push_back(sum += w);
        if (is_whole && sum > draw * total) return ranking[i];
        if (has_top_p && sum >= nucleus) break;
    }
    const double target = draw * sum;
    const auto hit = std::upper_bound(cumulative.begin(), cumulative.end(), target);
    const auto rank = std::min(static_cast<std::size_t>(hit - cumulative.begin()), cumulative.size() - 1);
    return ranking[rank];
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int k) {
    const double norm = log_sum_exp(logits);
    Ranking ranking(logits);
    std::vector<TokenLogprob> out;
    const std::size_t n = std::min(logits.size(), static_cast<std::size_t>(std::max(k, 0)));
    for (std::size_t i = 0; i < n; ++i) {
        const TokenId id = ranking[i];
        const auto logit = static_cast<double>(clean(logits[static_cast<std::size_t>(id)]));
        out.push_back({id, static_cast<float>(logit - norm)});
    }
    return out;
}

float logprob(std::span<const float> logits, TokenId id) {
    return static_cast<float>(static_cast<double>(clean(logits[static_cast<std::size_t>(id)])) -
                              log_sum_exp(logits));
}

}  // namespace ds4
