#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/grain.h"
#include "backend/cpu/vector.h"
#include "backend/cpu/visible_rows.h"

namespace ds4::cpu {
namespace {

constexpr auto kTile = static_cast<std::int64_t>(kHeadTile);
constexpr auto kBlock = static_cast<std::int64_t>(kKeyBlock);
constexpr std::int64_t kAhead = 8;                                   // rows between fetching and decoding
constexpr float kNothing = -std::numeric_limits<float>::infinity();  // the largest of no scores

std::int64_t round_up(std::int64_t n, std::int64_t to) {
    return (n + to - 1) / to * to;
}

}  // namespace

// What a thread works in, all rows padded.
struct AttentionRoom {
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
    AttentionRoom(float* memory, SoftmaxState* states, std::int64_t n_heads, std::int64_t head_dim)
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

namespace {

// Consecutive heads of one query.
struct Heads {
    std::int64_t row, first, n;

    std::int64_t padded() const { return round_up(n, kTile); }
};

void take_queries(const Heads& heads, Rows q, const AttentionRoom& room) {
    const float* from = q.row(heads.row) + heads.first * room.d;
    for (std::int64_t h = 0; h < heads.n; ++h) {
        std::copy_n(from + h * room.d, room.d, room.q + h * room.stride);
        std::fill_n(room.q + h * room.stride + room.d, room.width - room.d, 0.0F);
    }
    room.clear_rows(room.q, heads.n, heads.padded());
}

// The sink is a score without a value.
void start_with_sinks(const Heads& heads, const Attention& attention, const AttentionRoom& room) {
    for (std::int64_t h = 0; h < heads.padded(); ++h) {
        room.state[h] = {h < heads.n ? attention.sinks.data[heads.first + h] : 0.0F, 1.0F};
    }
    room.clear_rows(room.acc, 0, heads.padded());
}

void finish(const Heads& heads, const AttentionRoom& room, Rows out) {
    float* to = out.row(heads.row) + heads.first * room.d;
    for (std::int64_t h = 0; h < heads.n; ++h) {
        cpu::scale(room.acc + h * room.stride, 1.0F / room.state[h].sum, nullptr,
                   static_cast<std::size_t>(room.d), to + h * room.d);
    }
}

// Takes keys [first, first + kBlock), as far as there are any, into acc and state.
void attend_keys(const VisibleRows& visible, std::int64_t first, const Heads& heads,
                 const AttentionRoom& room, SoftmaxState* state, float* acc) {
    const std::int64_t n_keys = std::min(kBlock, visible.count() - first);
    for (std::int64_t k = 0; k < n_keys; ++k) {
        float* key = room.keys + k * room.stride;
        visible.prefetch(first + k + kAhead);
        visible.get(first + k, key);
        std::fill_n(key + room.d, room.width - room.d, 0.0F);
    }
    room.clear_rows(room.keys, n_keys, round_up(n_keys, static_cast<std::int64_t>(kKeyTile)));
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(room.d)));
    attend_block(room.q, static_cast<std::size_t>(heads.padded()), room.keys,
                 static_cast<std::size_t>(n_keys), static_cast<std::size_t>(room.d), scale, room.scores,
                 state, acc);
}

}  // namespace

struct WindowAttention::Call {
    const Attention& attention;
    const BatchRows& batch;
    std::span<const LayerHistory> history;
    const Selection& selection;
    Rows q, kv, out;

    std::int64_t n_tiles() const { return round_up(attention.n_heads, kTile) / kTile; }
    std::int64_t row_floats() const {
        return static_cast<std::int64_t>(padded_stride(static_cast<std::size_t>(attention.head_dim)));
    }
    VisibleRows visible(std::int64_t row) const {
        const std::size_t s = segment_of(batch, row);
        return {attention, batch.segments[s], history[s], selection, kv, row};
    }
    std::int64_t n_blocks(std::int64_t row) const { return (visible(row).count() + kBlock - 1) / kBlock; }
    // The heads of n tiles.
    Heads heads(std::int64_t row, std::int64_t tile, std::int64_t n) const {
        return {row, tile * kTile, std::min(n * kTile, attention.n_heads - tile * kTile)};
    }
};

// Keys are worth dividing between threads where heads are too few for them; the sums are the same.
void WindowAttention::run(const Attention& attention, const BatchRows& batch,
                          std::span<const LayerHistory> history, const Selection& selection, Rows q, Rows kv,
                          Rows out) {
    const Call call{attention, batch, history, selection, q, kv, out};
    const std::int64_t room_floats = AttentionRoom::floats(attention.n_heads, attention.head_dim);
    const auto n_members = static_cast<std::int64_t>(pool_.size());
    rooms_.take(static_cast<std::size_t>(n_members * room_floats));
    states_.take(static_cast<std::size_t>(n_members * call.n_tiles() * kTile));
    if (batch.n_rows() * call.n_tiles() < n_members) return run_by_keys(call);
    run_by_heads(call);
}

AttentionRoom WindowAttention::room(const Call& call, int member) {
    const std::int64_t n_heads = call.attention.n_heads;
    const std::int64_t d = call.attention.head_dim;
    return {rooms_.get() + member * AttentionRoom::floats(n_heads, d),
            states_.get() + member * call.n_tiles() * kTile, n_heads, d};
}

// Tasks are (row, tile of heads), tiles of a row next to each other: those of a piece share every key.
void WindowAttention::run_by_heads(const Call& call) {
    const std::int64_t n_tiles = call.n_tiles();
    const std::int64_t n_tasks = call.batch.n_rows() * n_tiles;
    // A row is divided only where there are fewer rows than threads.
    const std::int64_t grain = std::min(n_tiles, (n_tasks + pool_.size() - 1) / pool_.size());
    const auto attend = [&](std::size_t begin, std::size_t end, int member) {
        const AttentionRoom room = this->room(call, member);
        const auto last = static_cast<std::int64_t>(end);
        for (auto task = static_cast<std::int64_t>(begin); task < last;) {
            const std::int64_t tile = task % n_tiles;
            const std::int64_t n = std::min(last - task, n_tiles - tile);
            const Heads heads = call.heads(task / n_tiles, tile, n);
            const VisibleRows visible = call.visible(heads.row);
            take_queries(heads, call.q, room);
            start_with_sinks(heads, call.attention, room);
            for (std::int64_t first = 0; first < visible.count(); first += kBlock) {
                attend_keys(visible, first, heads, room, room.state, room.acc);
            }
            finish(heads, room, call.out);
            task += n;
        }
    };
    pool_.parallel_for(static_cast<std::size_t>(n_tasks), static_cast<std::size_t>(grain), attend);
}

// Tasks are (row, block of keys, tile of heads); then the blocks of each (row, tile) are merged in order.
void WindowAttention::run_by_keys(const Call& call) {
    const std::int64_t n_rows = call.batch.n_rows();
    const std::int64_t n_tiles = call.n_tiles();
    const std::int64_t n_heads = n_tiles * kTile;
    std::int64_t* first_block = first_block_.take(static_cast<std::size_t>(n_rows + 1));
    first_block[0] = 0;
    for (std::int64_t r = 0; r < n_rows; ++r) first_block[r + 1] = first_block[r] + call.n_blocks(r);
    const std::int64_t n_blocks = first_block[n_rows];
    const std::int64_t block_floats = n_heads * call.row_floats();
    float* sums = block_sums_.take(static_cast<std::size_t>(n_blocks * block_floats));
    SoftmaxState* states = block_states_.take(static_cast<std::size_t>(n_blocks * n_heads));

    const auto attend = [&](std::size_t begin, std::size_t end, int member) {
        const AttentionRoom room = this->room(call, member);
        const auto last = static_cast<std::int64_t>(end);
        for (auto task = static_cast<std::int64_t>(begin); task < last;) {
            const std::int64_t block = task / n_tiles;
            const std::int64_t tile = task % n_tiles;
            const std::int64_t n = std::min(last - task, n_tiles - tile);
            const std::int64_t row =
                std::upper_bound(first_block, first_block + n_rows, block) - first_block - 1;
            const Heads heads = call.heads(row, tile, n);
            SoftmaxState* state = states + block * n_heads + heads.first;
            float* acc = sums + block * block_floats + heads.first * call.row_floats();
            std::fill_n(state, heads.padded(), SoftmaxState{kNothing, 0.0F});
            room.clear_rows(acc, 0, heads.padded());
            take_queries(heads, call.q, room);
            attend_keys(call.visible(row), (block - first_block[row]) * kBlock, heads, room, state, acc);
            task += n;
        }
    };
    const std::int64_t steps = kBlock * kTile * call.attention.head_dim / 8;
    pool_.parallel_for(static_cast<std::size_t>(n_blocks * n_tiles), grain_for(steps), attend);

    const auto merge = [&](std::size_t begin, std::size_t end, int member) {
        const AttentionRoom room = this->room(call, member);
        for (auto task = static_cast<std::int64_t>(begin); task < static_cast<std::int64_t>(end); ++task) {
            const Heads heads = call.heads(task / n_tiles, task % n_tiles, 1);
            start_with_sinks(heads, call.attention, room);
            for (std::int64_t b = first_block[heads.row]; b < first_block[heads.row + 1]; ++b) {
                merge_block(states + b * n_heads + heads.first,
                            sums + b * block_floats + heads.first * call.row_floats(), kHeadTile,
                            static_cast<std::size_t>(call.attention.head_dim), room.state, room.acc);
            }
            finish(heads, room, call.out);
        }
    };
    pool_.parallel_for(static_cast<std::size_t>(n_rows * n_tiles), grain_for(kTile * call.attention.head_dim),
                       merge);
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
