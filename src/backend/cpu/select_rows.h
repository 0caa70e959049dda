#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/index_packed.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"
#include "quant/rounding.h"

namespace ds4::cpu {

// Backend::select_rows, model.md 8. Rows stored as FP4 meet queries on the FP4 grid as integers, others as
// f32.
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

        std::int64_t n_heads() const { return weight.width; }
        std::int64_t n_blocks() const { return q.width / static_cast<std::int64_t>(quant::kFp4Block); }
    };

    // Scores of the keys of a block of groups.
    struct Scores {
        float* data = nullptr;  // (groups * kGroup, stride)
        std::int64_t stride = 0;
    };

    std::span<const Group> find_groups(const BatchRows& batch, const Selection& selection);
    void pack_queries(std::span<const Group> groups, std::span<const LayerHistory> history,
                      const Queries& queries);
    PackedIndexQuery packed_query(const Queries& queries, std::int64_t row) const;
    void score(std::span<const Group> groups, std::span<const LayerHistory> history, const Queries& queries,
               const Scores& scores);
    void choose(std::span<const Group> groups, const BatchRows& batch, const Selection& selection,
                const Scores& scores);

    ThreadPool& pool_;
    Scratch<Group> groups_;
    Scratch<float> scores_;
    Scratch<std::int32_t> ranks_;  // of one query per thread
    Scratch<float> keys_;          // one block per thread
    // Queries as they meet FP4 rows.
    Scratch<std::int8_t> codes_;
    Scratch<float> scales_;
    Scratch<std::int32_t> offsets_;
};

}  // namespace ds4::cpu
