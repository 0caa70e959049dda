#include "backend/cpu/compress.h"

#include <algorithm>
#include <limits>

#include "backend/cpu/grain.h"
#include "backend/cpu/rope_tables.h"
#include "backend/cpu/rounding_kernel.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace ds4::cpu {
namespace {

// One session's stream of tokens through one compressor.
struct Stream {
    const Segment& segment;
    Frontier frontier;
    PagedRows rows;
    Rows value, score;  // of the batch, score with ape
    std::int64_t ratio;
    bool overlapping;  // a window also sees the one before it

    std::int64_t end() const { return segment.start + segment.n_rows; }
    std::int64_t first_window() const { return segment.start / ratio; }
    std::int64_t n_closed() const { return end() / ratio - first_window(); }
    // Slots of the open window come after those of the previous one.
    std::int64_t open_slot(std::int64_t position) const {
        return position % ratio + (overlapping ? ratio : 0);
    }

    // Where the token at `position` stands: in the batch, or in the frontier that the last call left.
    const float* at(std::int64_t position, Rows in_batch, const float* in_frontier) const {
        if (position >= segment.start) return in_batch.row(segment.first_row + position - segment.start);
        const bool open = position >= first_window() * ratio;
        const std::int64_t slot = open ? open_slot(position) : (position + ratio) % ratio;
        return in_frontier + slot * in_batch.width;
    }
    const float* value_at(std::int64_t position) const { return at(position, value, frontier.value); }
    const float* score_at(std::int64_t position) const { return at(position, score, frontier.score); }
};

// Norm, rotation and rounding of a pooled row. table: room for a rope table. model.md 7
void finish_row(const Compressor& c, std::int64_t window, float* table, float* row) {
    scale(row, inverse_rms(row, c.dim, c.rms_eps), c.norm.data, static_cast<std::size_t>(c.dim), row);
    fill_rope_table(c.rope, static_cast<std::int32_t>(window * c.ratio), table);
    rope_row(c.rope, table, c.dim, false, row, c.dim);
    if (!c.rounding) return;
    if (c.finish == Compressor::Finish::fp8) {
        round_fp8(row, static_cast<std::size_t>(c.dim - c.rope.n_dims));
    } else {
        round_hadamard_fp4(row, static_cast<std::size_t>(c.dim));
    }
}

// Pools one closed window into its row. slots: room for 2 * slots pointers; row: for the row (dim) and a rope
// table. Tokens of the previous window speak through the first half of their channels, those of the closed
// one through the second (ratio 4).
void emit_row(const Compressor& c, const Stream& stream, std::int64_t window, const float** slots,
              float* row) {
    const std::int64_t n_slots = stream.overlapping ? 2 * c.ratio : c.ratio;
    const float** values = slots;
    const float** scores = slots + n_slots;
    const std::int64_t end = (window + 1) * c.ratio;
    for (std::int64_t s = 0; s < n_slots; ++s) {
        const std::int64_t position = end - n_slots + s;
        const std::int64_t half = stream.overlapping && s >= c.ratio ? c.dim : 0;
        values[s] = stream.value_at(position) + half;
        scores[s] = stream.score_at(position) + half;
    }
    softmax_pool(values, scores, static_cast<std::size_t>(n_slots), static_cast<std::size_t>(c.dim), row);
    finish_row(c, window, row + c.dim, row);
    quant::encode_kv_row(stream.rows.format, row, stream.rows.row(window));
}

// Leaves the canonical frontier after the segment, model.md 7.1. A slot of the previous window may come from
// the open slot of the same place, so that one is taken first.
void move_frontier(const Stream& stream) {
    const std::int64_t width = stream.value.width;
    const std::int64_t open_window = stream.end() / stream.ratio * stream.ratio;
    const auto put = [&](std::int64_t slot, const float* value, const float* score) {
        std::copy_n(value, width, stream.frontier.value + slot * width);
        std::copy_n(score, width, stream.frontier.score + slot * width);
    };
    for (std::int64_t j = 0; j < stream.ratio; ++j) {
        const std::int64_t open = open_window + j;
        const std::int64_t closed = open - stream.ratio;
        if (stream.n_closed() > 0) {
            if (stream.overlapping) put(j, stream.value_at(closed), stream.score_at(closed));
            const std::int64_t slot = stream.open_slot(open);
            std::fill_n(stream.frontier.value + slot * width, width, 0.0F);
            std::fill_n(stream.frontier.score + slot * width, width, -std::numeric_limits<float>::infinity());
        }
        if (open >= stream.segment.start && open < stream.end()) {
            put(stream.open_slot(open), stream.value_at(open), stream.score_at(open));
        }
    }
}

}  // namespace

// score + ape[position % ratio], as the pooling and the frontier have it.
Rows CompressorRows::add_ape(const Compressor& compressor, const BatchRows& batch, Rows score) {
    const auto width = static_cast<std::size_t>(score.width);
    const Rows out{score_.take(static_cast<std::size_t>(score.n) * width), score.n, score.width};
    const auto decode = quant::format(compressor.ape.type).decode;
    const auto n_rows = static_cast<std::size_t>(score.n);
    pool_.parallel_for(n_rows, grain_for(score.width), [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; ++r) {
            float* row = out.data + r * width;
            decode(compressor.ape.row(batch.positions[r] % compressor.ratio), row, width);
            add(score.data + r * width, width, row);
        }
    });
    return out;
}

// What one call brings to the compressors of its sessions.
struct CompressorRows::Feed {
    const Compressor& compressor;
    const BatchRows& batch;
    std::span<const LayerHistory> history;
    bool of_indexer;
    Rows value, score;

    std::size_t n_streams() const { return batch.segments.size(); }

    Stream stream(std::size_t s) const {
        const LayerHistory& h = history[s];
        const Frontier& frontier = of_indexer ? h.indexer_compressor : h.compressor;
        const PagedRows& rows = of_indexer ? h.indexer : h.compressed;
        const bool overlapping = value.width == 2 * compressor.dim;
        return {batch.segments[s], frontier, rows, value, score, compressor.ratio, overlapping};
    }
};

void CompressorRows::emit_windows(const Feed& feed) {
    // Windows of all sessions, numbered through: session s has first[s] .. first[s + 1] - 1.
    std::int64_t* first = first_window_.take(feed.n_streams() + 1);
    first[0] = 0;
    for (std::size_t s = 0; s < feed.n_streams(); ++s) first[s + 1] = first[s] + feed.stream(s).n_closed();
    const auto n_windows = static_cast<std::size_t>(first[feed.n_streams()]);

    const auto slots_per_thread = static_cast<std::size_t>(4 * feed.compressor.ratio);
    const float** slots = slots_.take(static_cast<std::size_t>(pool_.size()) * slots_per_thread);
    const auto row_floats = static_cast<std::size_t>(feed.compressor.dim + 2 * feed.compressor.rope.n_dims);
    float* rows = row_.take(static_cast<std::size_t>(pool_.size()) * row_floats);
    const auto emit = [&](std::size_t begin, std::size_t end, int member) {
        for (auto i = static_cast<std::int64_t>(begin); i < static_cast<std::int64_t>(end); ++i) {
            const std::int64_t* after = std::upper_bound(first, first + feed.n_streams(), i);
            const auto s = static_cast<std::size_t>(after - first) - 1;
            const Stream stream = feed.stream(s);
            emit_row(feed.compressor, stream, stream.first_window() + i - first[s],
                     slots + static_cast<std::size_t>(member) * slots_per_thread,
                     rows + static_cast<std::size_t>(member) * row_floats);
        }
    };
    constexpr std::int64_t kStepsPerExp = 4;
    pool_.parallel_for(n_windows, grain_for(kStepsPerExp * feed.compressor.ratio * feed.value.width), emit);
}

void CompressorRows::run(const Compressor& compressor, const BatchRows& batch,
                         std::span<const LayerHistory> history, bool of_indexer, Rows value, Rows score) {
    const Feed feed{compressor, batch, history, of_indexer, value, add_ape(compressor, batch, score)};
    emit_windows(feed);
    // Only now: the windows above read the old frontier.
    pool_.parallel_for(feed.n_streams(), grain_for(2 * value.width), [&](std::size_t begin, std::size_t end) {
        for (std::size_t s = begin; s < end; ++s) move_frontier(feed.stream(s));
    });
}

}  // namespace ds4::cpu
