#include "tokenizer/bpe.h"

#include <algorithm>

namespace ds4::tokenizer {
namespace {

std::uint64_t pack(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
}

}  // namespace

std::size_t MergeTable::Hash::operator()(std::uint64_t pair) const {
    // Multiply and fold: both ids reach the low bits that choose the bucket.
    const std::uint64_t mixed = pair * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32));
}

bool MergeTable::add(std::int32_t left, std::int32_t right, Merge merge) {
    return merges_.emplace(pack(left, right), merge).second;
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
    const auto found = merges_.find(pack(left, right));
    return found == merges_.end() ? nullptr : &found->second;
}

bool PieceMerger::is_later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

void PieceMerger::add_candidate(std::int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    const std::int32_t left_id = at(left).id;
    const std::int32_t right_id = at(at(left).next).id;
    const MergeTable::Merge* merge = merges_.find(left_id, right_id);
    if (merge == nullptr) return;
    heap_.push_back({merge->rank, left, left_id, right_id, merge->result});
    std::push_heap(heap_.begin(), heap_.end(), is_later);
}

bool PieceMerger::is_current(const Candidate& candidate) const {
    const Symbol& left = at(candidate.left);
    return left.id == candidate.left_id && left.next >= 0 && at(left.next).id == candidate.right_id;
}

void PieceMerger::apply(const Candidate& candidate) {
    Symbol& left = at(candidate.left);
    Symbol& right = at(left.next);
    left.id = candidate.result;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) at(left.next).previous = candidate.left;
    add_candidate(left.previous);
    add_candidate(candidate.left);
}

void PieceMerger::merge(std::vector<std::int32_t>& ids) {
    const auto n = static_cast<std::int32_t>(ids.size());
    symbols_.clear();
    heap_.clear();
    for (std::int32_t i = 0; i < n; ++i) {
        symbols_.push_back({ids[static_cast<std::size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1});
    }
    for (std::int32_t i = 0; i + 1 < n; ++i) add_candidate(i);
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), is_later);
        const Candidate candidate = heap_.back();
        heap_.pop_back();
        if (is_current(candidate)) apply(candidate);
    }
    ids.clear();
    for (const Symbol& symbol : symbols_) {
        if (symbol.id >= 0) ids.push_back(symbol.id);
    }
}

}  // namespace ds4::tokenizer
