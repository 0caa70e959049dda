#include "engine/ranking.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace ds4 {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
// As many are listed rather than put into buckets.
constexpr std::size_t kFew = 4096;
// As many are sorted at once.
constexpr std::size_t kSorted = 64;

// Lanes side by side are what a compiler makes vector code of.
constexpr std::size_t kLanes = 16;

float lowest_above(const BlockMaxima& maxima, float least) {
    std::array<float, kLanes> lanes;
    lanes.fill(std::numeric_limits<float>::infinity());
    const auto take = [least](float& lane, float l) {
        const float known = l >= least ? l : lane;
        lane = known < lane ? known : lane;
    };
    maxima.for_blocks_above(least, [&](std::size_t, std::span<const float> block) {
        std::size_t i = 0;
        for (; i + kLanes <= block.size(); i += kLanes) {
            for (std::size_t lane = 0; lane < kLanes; ++lane) take(lanes[lane], block[i + lane]);
        }
        for (; i < block.size(); ++i) take(lanes[0], block[i]);
    });
    return *std::min_element(lanes.begin(), lanes.end());
}

}  // namespace

float Weight::logit_of(double weight) const {
    const double logit = static_cast<double>(top_) + std::log(weight) * static_cast<double>(temperature_);
    return static_cast<float>(std::max(logit, -static_cast<double>(std::numeric_limits<float>::max())));
}

// ---- BlockMaxima ----

BlockMaxima::BlockMaxima(std::span<const float> logits)
    : logits_(logits), maxima_([]() -> std::vector<float>& {
          thread_local std::vector<float> memory;
          return memory;
      }()) {
    maxima_.resize((logits.size() + kBlock - 1) / kBlock);
    for (std::size_t i = 0; i < maxima_.size(); ++i) {
        const auto block = logits.subspan(i * kBlock, std::min(kBlock, logits.size() - i * kBlock));
        std::array<float, kLanes> lanes;
        lanes.fill(kNever);
        std::size_t k = 0;
        for (; k + kLanes <= block.size(); k += kLanes) {
            for (std::size_t lane = 0; lane < kLanes; ++lane)
                lanes[lane] = block[k + lane] > lanes[lane] ? block[k + lane] : lanes[lane];
        }
        float largest = *std::max_element(lanes.begin(), lanes.end());
        for (; k < block.size(); ++k) largest = block[k] > largest ? block[k] : largest;
        maxima_[i] = largest;
    }
}

float BlockMaxima::top() const {
    return *std::max_element(maxima_.begin(), maxima_.end());
}

float BlockMaxima::reached_by(std::size_t n) const {
    if (n == 0 || n > maxima_.size()) return kNever;
    thread_local std::vector<float> sorted;
    sorted.assign(maxima_.begin(), maxima_.end());
    const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(n - 1);
    std::nth_element(sorted.begin(), nth, sorted.end(), std::greater<>());
    return *nth;
}

std::size_t BlockMaxima::count_above(float least) const {
    std::size_t total = 0;
    for_blocks_above(least, [&](std::size_t, std::span<const float> block) {
        std::int32_t n = 0;
        for (const float l : block) n += l >= least ? 1 : 0;
        total += static_cast<std::size_t>(n);
    });
    return total;
}

// ---- Ranking ----

Ranking::Scratch& Ranking::scratch() {
    thread_local Scratch memory;
    return memory;
}

Ranking::Ranking(const BlockMaxima& maxima, const Weight& weight, float least)
    : maxima_(maxima), weight_(weight), scratch_(scratch()) {
    size_ = maxima.count_above(least);
    has_buckets_ = size_ > kFew;
    if (has_buckets_) {
        fill_buckets(least);
    } else {
        list(least);
    }
}

void Ranking::list(float least) {
    std::vector<Candidate>& candidates = scratch_.candidates;
    candidates.clear();
    maxima_.for_blocks_above(least, [&](std::size_t first, std::span<const float> block) {
        for (std::size_t i = 0; i < block.size(); ++i) {
            if (!(block[i] >= least)) continue;
            candidates.push_back({block[i], static_cast<TokenId>(first + i)});
            total_ += weight_(block[i]);
        }
    });
}

// A weight is that of its bucket's start and a little less. The little is a polynomial, to 1e-9 of the weight
// or better, and in single precision good enough for a sum in double precision. Bucket and start come from
// the same arithmetic in every lane, so they agree.
void Ranking::fill_buckets(float least) {
    constexpr std::size_t kChunk = 512;
    const std::span<const float> logits = maxima_.logits();
    const float top = weight_.top();
    const float width = (top - lowest_above(maxima_, least)) / static_cast<float>(kBuckets);
    const float per_width = width > 0 ? 1 / width : 0;
    const auto last = static_cast<float>(kBuckets - 1);
    const float per_temperature = 1 / weight_.temperature();
    const auto start_of = [&](std::int32_t bucket) { return top - static_cast<float>(bucket) * width; };
    std::vector<std::uint16_t>& bucket_of = scratch_.bucket_of;
    auto& buckets = scratch_.buckets;
    bucket_of.resize(logits.size());
    buckets.fill({});
    std::array<float, kChunk> less;
    std::array<std::int32_t, kChunk> at;
    for (std::size_t first = 0; first < logits.size(); first += kChunk) {
        const auto chunk = logits.subspan(first, std::min(kChunk, logits.size() - first));
        // Loops of their own: compilers branch around arithmetic that a condition may not need.
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            float x = (top - chunk[i]) * per_width;
            x = x > 0 ? x : 0;  // NaN, too
            at[i] = static_cast<std::int32_t>(x < last ? x : last);
        }
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const float d = (start_of(at[i]) - chunk[i]) * per_temperature;
            less[i] = -d * (1 - d * 0.5F * (1 - d * (1 / 3.0F) * (1 - d * 0.25F)));
        }
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const std::int32_t inside = at[i];
            const auto outside = static_cast<std::int32_t>(kBuckets + i % kOutside);
            at[i] = chunk[i] >= least ? inside : outside;
            bucket_of[first + i] = static_cast<std::uint16_t>(at[i]);
        }
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            Bucket& bucket = buckets[static_cast<std::size_t>(at[i])];
            bucket.sum += static_cast<double>(less[i]);
            ++bucket.n;
        }
    }
    for (std::size_t b = 0; b < kBuckets; ++b) {
        Bucket& bucket = buckets[b];
        if (bucket.n == 0) continue;
        bucket.sum =
            weight_(start_of(static_cast<std::int32_t>(b))) * (static_cast<double>(bucket.n) + bucket.sum);
        total_ += bucket.sum;
        last_bucket_ = b;
    }
}

void Ranking::list_bucket(std::size_t bucket) {
    std::vector<Candidate>& candidates = scratch_.candidates;
    const std::vector<std::uint16_t>& bucket_of = scratch_.bucket_of;
    const auto wanted = static_cast<std::uint16_t>(bucket);
    candidates.clear();
    for (std::size_t first = 0; first < bucket_of.size(); first += BlockMaxima::kBlock) {
        const auto block =
            std::span(bucket_of).subspan(first, std::min(BlockMaxima::kBlock, bucket_of.size() - first));
        std::uint16_t n = 0;
        for (const std::uint16_t b : block) n = static_cast<std::uint16_t>(n + (b == wanted ? 1 : 0));
        if (n == 0) continue;
        for (std::size_t i = 0; i < block.size(); ++i) {
            if (block[i] == wanted)
                candidates.push_back({maxima_.logits()[first + i], static_cast<TokenId>(first + i)});
        }
    }
}

Ranking::Place Ranking::find(double sum, std::size_t n) {
    Place place;
    if (!has_buckets_) return walk(place, sum, n);
    for (std::size_t b = 0; b < last_bucket_; ++b) {
        const Bucket& bucket = scratch_.buckets[b];
        if (bucket.n == 0) continue;
        if (place.sum + bucket.sum >= sum || place.n + bucket.n >= n) {
            list_bucket(b);
            return walk(place, sum, n);
        }
        place.sum += bucket.sum;
        place.n += bucket.n;
    }
    list_bucket(last_bucket_);
    return walk(place, sum, n);
}

// On through the listed candidates. Halves that the place cannot be in are not sorted.
Ranking::Place Ranking::walk(Place place, double sum, std::size_t n) {
    const auto better = [](const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    std::span<Candidate> rest(scratch_.candidates);
    // Equals are in order already.
    const bool is_sorted = std::all_of(rest.begin(), rest.end(),
                                       [&](const Candidate& c) { return c.logit == rest.front().logit; });
    while (!is_sorted && rest.size() > kSorted) {
        const std::size_t half = rest.size() / 2;
        std::nth_element(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(half), rest.end(), better);
        double half_sum = 0;
        for (const Candidate& candidate : rest.first(half)) half_sum += weight_(candidate.logit);
        if (place.sum + half_sum >= sum || place.n + half >= n) {
            rest = rest.first(half);
        } else {
            place.sum += half_sum;
            place.n += half;
            rest = rest.subspan(half);
        }
    }
    if (!is_sorted) std::sort(rest.begin(), rest.end(), better);
    float last = kNever;
    double weight = 0;
    for (const Candidate& candidate : rest) {
        if (candidate.logit != last) weight = weight_(last = candidate.logit);
        place.id = candidate.id;
        ++place.n;
        place.sum += weight;
        if (place.sum >= sum || place.n >= n) break;
    }
    return place;
}

}  // namespace ds4
