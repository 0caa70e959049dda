#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/gpu/ops.h"
#include "backend/gpu/step_table.h"

namespace ds4::gpu {

// Puts segments, histories and page tables of a batch into the step table.
class BatchTable {
  public:
    explicit BatchTable(StepTable& table) : table_(table) {}

    // One operation's view of the batch in one layer. ratio 0: no compressed rows are looked at.
    ops::Batch add(const BatchRows& batch, std::span<const LayerHistory> history, std::int64_t ratio);

  private:
    PagedRowsArgs paged(const PagedRows& rows, std::int64_t n_rows);

    StepTable& table_;
    std::vector<SegmentArgs> segments_;
    std::vector<std::int32_t> row_segment_;
    std::vector<HistoryArgs> history_;
};

}  // namespace ds4::gpu
