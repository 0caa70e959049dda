#include "backend/gpu/batch_table.h"

#include <algorithm>
#include <bit>
#include <type_traits>

namespace ds4::gpu {

static_assert(std::has_unique_object_representations_v<HistoryArgs> &&
                  std::has_unique_object_representations_v<SegmentArgs>,
              "padding would be compared");

// The page table of a list of which n_rows are read or written.
PagedRowsArgs BatchTable::paged(const PagedRows& rows, std::int64_t n_rows) {
    PagedRowsArgs out{};
    if (rows.pages == nullptr || n_rows == 0) return out;
    const std::int64_t per_page = std::int64_t{1} << rows.log2_rows;
    const auto n_pages = static_cast<std::size_t>((n_rows + per_page - 1) >> rows.log2_rows);
    // Room to grow, so that what comes after it stays in its place.
    out.pages = reinterpret_cast<std::uint8_t* const*>(
        table_.add(std::span(rows.pages, n_pages), std::bit_ceil(n_pages)));
    out.offset = static_cast<std::uint32_t>(rows.offset);
    out.log2_rows = static_cast<std::uint32_t>(rows.log2_rows);
    out.format = {static_cast<std::uint32_t>(rows.format.code), static_cast<std::uint32_t>(rows.format.width),
                  static_cast<std::uint32_t>(rows.format.n_tail),
                  static_cast<std::uint32_t>(rows.format.bytes)};
    return out;
}

ops::Batch BatchTable::add(const BatchRows& batch, std::span<const LayerHistory> history,
                           std::int64_t ratio) {
    ops::Batch out;
    segments_.clear();
    row_segment_.clear();
    history_.clear();
    out.index_rows_packed = true;
    for (std::size_t s = 0; s < batch.segments.size(); ++s) {
        const Segment& segment = batch.segments[s];
        const LayerHistory& h = history[s];
        const std::int64_t end = segment.start + segment.n_rows;
        out.max_segment_rows = std::max(out.max_segment_rows, segment.n_rows);
        out.end = std::max(out.end, end);
        segments_.push_back({static_cast<std::int32_t>(segment.first_row),
                             static_cast<std::int32_t>(segment.n_rows),
                             static_cast<std::int32_t>(segment.start)});
        row_segment_.insert(row_segment_.end(), static_cast<std::size_t>(segment.n_rows),
                            static_cast<std::int32_t>(s));
        const std::int64_t n_rows = ratio == 0 ? 0 : end / ratio;
        HistoryArgs& args = history_.emplace_back();
        args.window = h.window;
        args.window_rows = static_cast<std::uint32_t>(h.window_rows);
        args.compressed = paged(h.compressed, n_rows);
        args.indexer = paged(h.indexer, n_rows);
        if (h.indexer.format.code != quant::KvRowFormat::Code::fp4) out.index_rows_packed = false;
        args.compressor = {h.compressor.value, h.compressor.score};
        args.indexer_compressor = {h.indexer_compressor.value, h.indexer_compressor.score};
    }
    out.end = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(out.end)));
    out.n_segments = static_cast<std::int64_t>(segments_.size());
    out.args.segments = table_.add(std::span<const SegmentArgs>(segments_));
    out.args.row_segment = table_.add(std::span<const std::int32_t>(row_segment_));
    out.args.history = table_.add(std::span<const HistoryArgs>(history_));
    out.args.n = static_cast<std::uint32_t>(row_segment_.size());
    return out;
}

}  // namespace ds4::gpu
