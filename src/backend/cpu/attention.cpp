#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/grain.h"
#include "backend/cpu/kv_rows.h"
#include "backend/cpu/vector.h"

namespace ds4::cpu {
namespace {

constexpr auto kTile = static_cast<std::int64_t>(kHeadTile);
constexpr auto kBlock = static_cast<std::int64_t>(kKeyBlock);

std::size_t segment_of(const BatchRows& batch, std::int64_t row) {
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

    // Row i, decoded into `room` (D) if it is not there as f32.
    const float* get(std::int64_t i, float* room) const {
        if (i >= n_raw_) {
            const std::int64_t c = i - n_raw_;
            const std::byte* stored = history_.compressed.row(list_ != nullptr ? list_[c] : c);
            cpu::decode_kv_row(history_.compressed.format, stored, room);
            return room;
        }
        const std::int64_t position = oldest_ + i;
        if (position >= segment_.start) return kv_.row(segment_.first_row + position - segment_.start);
        return history_.window + position % history_.window_rows * kv_.width;
    }

  private:
    const Segment& segment_;
    const LayerHistory& history_;
    Rows kv_;
    std::int64_t oldest_ = 0;
    std::int64_t n_raw_ = 0;
    std::int64_t n_compressed_ = 0;
    const std::int32_t* list_ = nullptr;
};

// Up to kTilesAtOnce tiles of heads of one query. A block of keys stays in the cache for all of them.
constexpr std::int64_t kTilesAtOnce = 16;

// room: (kKeyBlock, D)
void attend(const Attention& attention, const VisibleRows& visible, std::int64_t first_head,
            std::int64_t n_heads, const float* q, float* room, float* out) {
    const std::int64_t d = attention.head_dim;
    const auto width = static_cast<std::size_t>(d);
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
    SoftmaxState state[kTilesAtOnce * kTile];
    // The sink is a score without a value.
    for (std::int64_t h = 0; h < n_heads; ++h) state[h] = {attention.sinks.data[first_head + h], 1.0F};
    std::fill_n(out, n_heads * d, 0.0F);

    const float* keys[kKeyBlock];
    for (std::int64_t first = 0; first < visible.count(); first += kBlock) {
        const std::int64_t n_keys = std::min(kBlock, visible.count() - first);
        for (std::int64_t k = 0; k < n_keys; ++k) keys[k] = visible.get(first + k, room + k * d);
        for (std::int64_t h = 0; h < n_heads; h += kTile) {
            attend_block(q + h * d, static_cast<std::size_t>(std::min(kTile, n_heads - h)), keys,
                         static_cast<std::size_t>(n_keys), width, scale, state + h, out + h * d);
        }
    }
    for (std::int64_t h = 0; h < n_heads; ++h) {
        cpu::scale(out + h * d, 1.0F / state[h].sum, nullptr, width, out + h * d);
    }
}

}  // namespace

// Tasks are (row, tile of heads), tiles of a row next to each other.
void WindowAttention::run(const Attention& attention, const BatchRows& batch,
                          std::span<const LayerHistory> history, const Selection& selection, Rows q, Rows kv,
                          Rows out) {
    const std::int64_t n_tiles = (attention.n_heads + kTile - 1) / kTile;
    const auto n_tasks = static_cast<std::size_t>(batch.n_rows() * n_tiles);
    const auto block_floats = static_cast<std::size_t>(kBlock * attention.head_dim);
    float* blocks = keys_.take(static_cast<std::size_t>(pool_.size()) * block_floats);
    pool_.parallel_for(n_tasks, [&](std::size_t begin, std::size_t end, int member) {
        float* room = blocks + static_cast<std::size_t>(member) * block_floats;
        const auto last = static_cast<std::int64_t>(end);
        for (auto task = static_cast<std::int64_t>(begin); task < last;) {
            const std::int64_t row = task / n_tiles;
            const std::int64_t tile = task % n_tiles;
            const std::int64_t n = std::min({last - task, n_tiles - tile, kTilesAtOnce});
            const std::size_t s = segment_of(batch, row);
            const VisibleRows visible(attention, batch.segments[s], history[s], selection, kv, row);
            const std::int64_t first_head = tile * kTile;
            const std::int64_t n_heads = std::min(n * kTile, attention.n_heads - first_head);
            const std::int64_t offset = first_head * attention.head_dim;
            attend(attention, visible, first_head, n_heads, q.row(row) + offset, room, out.row(row) + offset);
            task += n;
        }
    });
}

void store_window(ThreadPool& pool, const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) {
    const auto n_segments = static_cast<std::int64_t>(batch.segments.size());
    const std::size_t grain = grain_for(kv.n * kv.width / std::max<std::int64_t>(1, n_segments));
    pool.parallel_for(batch.segments.size(), grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t s = begin; s < end; ++s) {
            const Segment& segment = batch.segments[s];
            const std::int64_t rows = history[s].window_rows;
            for (std::int64_t i = std::max<std::int64_t>(0, segment.n_rows - rows); i < segment.n_rows; ++i) {
                std::copy_n(kv.row(segment.first_row + i), kv.width,
                            history[s].window + (segment.start + i) % rows * kv.width);
            }
        }
    });
}

}  // namespace ds4::cpu
