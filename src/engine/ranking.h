#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ds4/token.h"

namespace ds4 {

// What a logit weighs beside the best one, whose weight is 1.
class Weight {
  public:
    // temperature > 0
    Weight(float top, float temperature) : top_(top), temperature_(temperature) {}

    double operator()(float logit) const {
        return std::exp((static_cast<double>(logit) - static_cast<double>(top_)) /
                        static_cast<double>(temperature_));
    }
    // The logit of this weight in (0, 1]; finite.
    float logit_of(double weight) const;
    float top() const { return top_; }
    float temperature() const { return temperature_; }

  private:
    float top_, temperature_;
};

// The largest logit of each block of the vocabulary: most blocks of most models hold nothing that matters.
// NaN counts as -infinity.
class BlockMaxima {
  public:
    static constexpr std::size_t kBlock = 64;

    // Of memory that the thread keeps: one at a time. The logits must outlive it.
    explicit BlockMaxima(std::span<const float> logits);

    std::span<const float> logits() const { return logits_; }
    float top() const;
    // A logit that at least n tokens reach, and hardly many times n; -infinity if there is none to name.
    float reached_by(std::size_t n) const;
    // Calls f(first, block) with the blocks that hold a logit of at least `least`.
    template <class F>
    void for_blocks_above(float least, F&& f) const {
        for (std::size_t i = 0; i < maxima_.size(); ++i) {
            if (!(maxima_[i] >= least)) continue;
            const std::size_t first = i * kBlock;
            f(first, logits_.subspan(first, std::min(kBlock, logits_.size() - first)));
        }
    }
    std::size_t count_above(float least) const;

  private:
    std::span<const float> logits_;
    std::vector<float>& maxima_;
};

// Tokens in the order of their chances, ties to the lower id, sorted only where somebody looks. Few tokens
// are a list. Many are counted and weighed in buckets of neighbouring logits: the order of buckets is the
// order of tokens, so only the bucket that a place falls into need be sorted.
class Ranking {
  public:
    // Of the tokens whose logit is at least `least`, the best token's at most. Its memory is the thread's:
    // one at a time. The maxima must outlive it.
    Ranking(const BlockMaxima& maxima, const Weight& weight, float least);

    std::size_t size() const { return size_; }
    double total() const { return total_; }  // weight of all

    struct Place {
        TokenId id = 0;
        std::size_t n = 0;  // tokens up to this one
        double sum = 0;     // of their weights
    };
    // The first place with this sum or this number of tokens; the last one if there is none.
    Place find(double sum, std::size_t n);
    Place find(double sum) { return find(sum, size_); }

  private:
    struct Candidate {
        float logit;
        TokenId id;
    };
    struct Bucket {
        double sum = 0;  // of weights; while they are collected, of their differences from the first one's
        std::size_t n = 0;
    };
    // What lies outside goes to buckets of its own, to several so that none has to wait for itself.
    static constexpr std::size_t kBuckets = 1024, kOutside = 16;
    struct Scratch {
        std::vector<Candidate> candidates;
        std::vector<std::uint16_t> bucket_of;  // (vocab)
        std::array<Bucket, kBuckets + kOutside> buckets;
    };
    static Scratch& scratch();

    void list(float least);
    void fill_buckets(float least);
    void list_bucket(std::size_t bucket);
    Place walk(Place place, double sum, std::size_t n);

    const BlockMaxima& maxima_;
    const Weight weight_;
    Scratch& scratch_;
    std::size_t size_ = 0;
    double total_ = 0;
    bool has_buckets_ = false;
    std::size_t last_bucket_ = 0;  // that is not empty
};

}  // namespace ds4
