#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ds4/sampling.h"

namespace ds4 {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float clean(float logit) {
    return std::isnan(logit) ? kNever : logit;
}

TokenId argmax(std::span<const float> logits) {
    TokenId best = 0;
    for (std::size_t i = 1; i < logits.size(); ++i) {
        if (clean(logits[i]) > clean(logits[static_cast<std::size_t>(best)])) best = static_cast<TokenId>(i);
    }
    return best;
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
    Ranking ranking(logits);
    std::size_t n = logits.size();
    if (s.top_k > 0) n = std::min(n, static_cast<std::size_t>(s.top_k));

    double total = 0;
    if (n == logits.size()) {
        for (std::size_t i = 0; i < n; ++i) total += weight(static_cast<TokenId>(i));
    } else {
        for (std::size_t i = 0; i < n; ++i) total += weight(ranking[i]);
    }
    const double nucleus = static_cast<double>(s.top_p) * total;
    std::vector<double>& cumulative = scratch().cumulative;  // of the kept tokens
    cumulative.clear();
    cumulative.reserve(n);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double w = weight(ranking[i]);
        if (w == 0 || (i > 0 && w < static_cast<double>(s.min_p))) break;
        cumulative.push_back(sum += w);
        if (s.top_p < 1 && sum >= nucleus) break;
    }
    const double target = uniform(s.seed, position) * sum;
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
