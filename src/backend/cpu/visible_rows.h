#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/kv_rows.h"

namespace ds4::cpu {

// The segment that a row of the batch belongs to.
inline std::size_t segment_of(const BatchRows& batch, std::int64_t row) {
    const auto after = std::upper_bound(batch.segments.begin(), batch.segments.end(), row,
                                        [](std::int64_t r, const Segment& s) { return r < s.first_row; });
    return static_cast<std::size_t>(after - batch.segments.begin()) - 1;
}

// What one query sees, in the order of the sums: the window from old to new, then compressed rows ascending.
// model.md 6.1
class VisibleRows {
  public:
    VisibleRows(const Attention& attention, const Segment& segment, const LayerHistory& history,
                const Selection& selection, Rows kv, std::int64_t row)
        : segment_(segment), history_(history), kv_(kv) {
        const std::int64_t position = segment.start + row - segment.first_row;
        oldest_ = std::max<std::int64_t>(0, position - attention.window + 1);
        n_raw_ = position - oldest_ + 1;
        if (attention.ratio == 0) return;
        if (selection.rows != nullptr) {
            list_ = selection.rows + row * selection.capacity;
            n_compressed_ = selection.count[row];
        } else {
            n_compressed_ = (position + 1) / attention.ratio;
        }
    }

    std::int64_t count() const { return n_raw_ + n_compressed_; }

    // Rows of a list lie anywhere in memory: fetches row i while others are worked on.
    void prefetch(std::int64_t i) const {
        if (i < n_raw_ || i >= count()) return;
        const std::byte* stored = compressed_row(i - n_raw_);
        for (std::size_t at = 0; at < history_.compressed.format.bytes; at += 64)
            __builtin_prefetch(stored + at);
    }

    // Writes row i to `out` (D).
    void get(std::int64_t i, float* out) const {
        if (i >= n_raw_) {
            cpu::decode_kv_row(history_.compressed.format, compressed_row(i - n_raw_), out);
        } else {
            std::copy_n(raw(oldest_ + i), kv_.width, out);
        }
    }

  private:
    const std::byte* compressed_row(std::int64_t c) const {
        return history_.compressed.row(list_ != nullptr ? list_[c] : c);
    }
    const float* raw(std::int64_t position) const {
        if (position >= segment_.start) return kv_.row(segment_.first_row + position - segment_.start);
        return history_.window + position % history_.window_rows * kv_.width;
    }

    const Segment& segment_;
    const LayerHistory& history_;
    Rows kv_;
    std::int64_t oldest_ = 0;
    std::int64_t n_raw_ = 0;
    std::int64_t n_compressed_ = 0;
    const std::int32_t* list_ = nullptr;
};

}  // namespace ds4::cpu
