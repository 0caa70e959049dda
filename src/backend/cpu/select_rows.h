#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Backend::select_rows, model.md 8.
class RowSelector {
  public:
    explicit RowSelector(ThreadPool& pool) : pool_(pool) {}

    void run(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
             std::int64_t head_dim, const Selection& selection);

  private:
    // Neighbouring queries of one session that must choose; they share each block of keys.
    struct Group {
        std::size_t segment;
        std::int64_t first_row;
        std::int64_t n_queries;
        std::int64_t n_keys;  // that the last of them sees
    };

    // Indexer queries of a step with their weights.
    struct Queries {
        Rows q, weight;
        std::int64_t head_dim;
    };

    // Scored keys of a block of groups: (query, key) in ranked order, see select_rows.cpp.
    struct Ranks {
        std::uint64_t* data = nullptr;  // (groups * kGroup, stride)
        std::int64_t stride = 0;
    };

    std::span<const Group> find_groups(const BatchRows& batch, const Selection& selection);
    void score(std::span<const Group> groups, std::span<const LayerHistory> history, const Queries& queries,
               const Ranks& ranks);
    void choose(std::span<const Group> groups, const BatchRows& batch, const Selection& selection,
                const Ranks& ranks);

    ThreadPool& pool_;
    Scratch<Group> groups_;
    Scratch<std::uint64_t> ranks_;
    Scratch<float> keys_;  // one transposed block and a key per thread
};

}  // namespace ds4::cpu
