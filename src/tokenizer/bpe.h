#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ds4::tokenizer {

// The ranked merges of a vocabulary, by token ids.
class MergeTable {
  public:
    struct Merge {
        std::int32_t rank;    // lower first
        std::int32_t result;  // token id
    };

    void reserve(std::size_t merges) { merges_.reserve(merges); }
    // False if the pair is there already.
    bool add(std::int32_t left, std::int32_t right, Merge merge);
    const Merge* find(std::int32_t left, std::int32_t right) const;  // nullptr: the pair never merges

  private:
    struct Hash {
        std::size_t operator()(std::uint64_t pair) const;
    };
    std::unordered_map<std::uint64_t, Merge, Hash> merges_;
};

// Merges the adjacent pair of lowest rank, leftmost first among equals, until none is left (model.md 15.3).
// O(n log n) in the length of a piece. Holds scratch memory: one per thread.
class PieceMerger {
  public:
    explicit PieceMerger(const MergeTable& merges) : merges_(merges) {}

    // Token ids, one per byte on entry; overwritten by the merged ids.
    void merge(std::vector<std::int32_t>& ids);

  private:
    // A run of merged bytes, linked to its neighbours. A symbol that was merged into its left one has id -1.
    struct Symbol {
        std::int32_t id;
        std::int32_t previous, next;  // index into symbols_, -1: none
    };
    // A possible merge of the symbol at `left` with the one after it. It is stale once either has changed.
    struct Candidate {
        std::int32_t rank;
        std::int32_t left;
        std::int32_t left_id, right_id, result;
    };
    static bool is_later(const Candidate& a, const Candidate& b);

    void add_candidate(std::int32_t left);
    bool is_current(const Candidate& candidate) const;
    void apply(const Candidate& candidate);

    Symbol& at(std::int32_t index) { return symbols_[static_cast<std::size_t>(index)]; }
    const Symbol& at(std::int32_t index) const { return symbols_[static_cast<std::size_t>(index)]; }

    const MergeTable& merges_;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
};

}  // namespace ds4::tokenizer
