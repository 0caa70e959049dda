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
constexpr std::int64_t kAhead = 8;  // rows between fetching and decoding

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

std::int64_t round_up(std::int64_t n, std::int64_t to) {
    return (n + to - 1) / to * to;
}

// What a thread works in, all rows padded.
struct Room {
    std::int64_t d, width, stride;
    float* keys;          // (kBlock, d)
    float* q;             // (heads, d)
    float* acc;           // (heads, d)
    float* scores;        // (heads, kBlock)
    SoftmaxState* state;  // (heads)

    static std::int64_t floats(std::int64_t n_heads, std::int64_t d) {
        const auto stride = static_cast<std::int64_t>(padded_stride(static_cast<std::size_t>(d)));
        return kBlock * stride + round_up(n_heads, kTile) * (2 * stride + kBlock);
    }
    Room(float* memory, SoftmaxState* states, std::int64_t n_heads, std::int64_t head_dim)
        : d(head_dim),
          width(static_cast<std::int64_t>(padded_width(static_cast<std::size_t>(d)))),
          stride(static_cast<std::int64_t>(padded_stride(static_cast<std::size_t>(d)))),
          keys(memory),
          q(keys + kBlock * stride),
          acc(q + round_up(n_heads, kTile) * stride),
          scores(acc + round_up(n_heads, kTile) * stride),
          state(states) {}

    // Rows [n, up to) of a padded block become zero.
    void clear_rows(float* block, std::int64_t n, std::int64_t to) const {
        std::fill(block + n * stride, block + to * stride, 0.0F);
    }
};

// Heads [first_head, first_head + n_heads) of one query. q, out (n_heads, D)
void attend(const Attention& attention, const VisibleRows& visible, std::int64_t first_head,
            std::int64_t n_heads, const float* q, const Room& room, float* out) {
    const std::int64_t d = room.d;
    const std::int64_t heads = round_up(n_heads, kTile);
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
    room.clear_rows(room.acc, 0, heads);
    room.clear_rows(room.q, n_heads, heads);
    for (std::int64_t h = 0; h < heads; ++h) {
        // The sink is a score without a value.
        room.state[h] = {h < n_heads ? attention.sinks.data[first_head + h] : 0.0F, 1.0F};
        if (h >= n_heads) continue;
        std::copy_n(q + h * d, d, room.q + h * room.stride);
        std::fill_n(room.q + h * room.stride + d, room.width - d, 0.0F);
    }
    for (std::int64_t first = 0; first < visible.count(); first += kBlock) {
        const std::int64_t n_keys = std::min(kBlock, visible.count() - first);
        for (std::int64_t k = 0; k < n_keys; ++k) {
            float* key = room.keys + k * room.stride;
            visible.prefetch(first + k + kAhead);
            visible.get(first + k, key);
            std::fill_n(key + d, room.width - d, 0.0F);
        }
        room.clear_rows(room.keys, n_keys, round_up(n_keys, static_cast<std::int64_t>(kKeyTile)));
        attend_block(room.q, static_cast<std::size_t>(heads), room.keys, static_cast<std::size_t>(n_keys),
                     static_cast<std::size_t>(d), scale, room.scores, room.state, room.acc);
    }
    for (std::int64_t h = 0; h < n_heads; ++h) {
        cpu::scale(room.acc + h * room.stride, 1.0F / room.state[h].sum, nullptr, static_cast<std::size_t>(d),
                   out + h * d);
    }
}

}  // namespace

// Tasks are (row, tile of heads), tiles of a row next to each other: those of a piece share every key.
void WindowAttention::run(const Attention& attention, const BatchRows& batch,
                          std::span<const LayerHistory> history, const Selection& selection, Rows q, Rows kv,
                          Rows out) {
    const std::int64_t n_tiles = round_up(attention.n_heads, kTile) / kTile;
    const std::int64_t n_tasks = batch.n_rows() * n_tiles;
    const auto n_members = static_cast<std::int64_t>(pool_.size());
    const std::int64_t room_floats = Room::floats(attention.n_heads, attention.head_dim);
    float* rooms = rooms_.take(static_cast<std::size_t>(n_members * room_floats));
    SoftmaxState* states = states_.take(static_cast<std::size_t>(n_members * n_tiles * kTile));
    // A row is divided only where there are fewer rows than threads.
    const std::int64_t grain = std::min(n_tiles, (n_tasks + n_members - 1) / n_members);
    pool_.parallel_for(
        static_cast<std::size_t>(n_tasks), static_cast<std::size_t>(grain),
        [&](std::size_t begin, std::size_t end, int member) {
            const Room room(rooms + member * room_floats, states + member * n_tiles * kTile,
                            attention.n_heads, attention.head_dim);
            const auto last = static_cast<std::int64_t>(end);
            for (auto task = static_cast<std::int64_t>(begin); task < last;) {
                const std::int64_t row = task / n_tiles;
                const std::int64_t tile = task % n_tiles;
                const std::int64_t n = std::min(last - task, n_tiles - tile);
                const std::size_t s = segment_of(batch, row);
                const VisibleRows visible(attention, batch.segments[s], history[s], selection, kv, row);
                const std::int64_t first_head = tile * kTile;
                const std::int64_t n_heads = std::min(n * kTile, attention.n_heads - first_head);
                const std::int64_t offset = first_head * attention.head_dim;
                attend(attention, visible, first_head, n_heads, q.row(row) + offset, room,
                       out.row(row) + offset);
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
