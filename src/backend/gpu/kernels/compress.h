#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/head_row.h"
#include "backend/gpu/kernels/kv_rows.h"

// The compressor, model.md 7: first every window that the batch closes becomes a row (compress_emit), then
// the frontiers move on (compress_move), for the windows read the old ones.
namespace ds4::gpu::DS4_DIALECT {

// One session's stream of tokens through a compressor.
struct Stream {
    SegmentArgs segment;
    FrontierArgs frontier;
    uint32_t ratio, width;
    bool overlapping;  // a window also sees the one before it

    DS4_FN uint32_t start() const { return static_cast<uint32_t>(segment.start); }
    DS4_FN uint32_t end() const { return static_cast<uint32_t>(segment.start + segment.n_rows); }
    DS4_FN uint32_t first_window() const { return start() / ratio; }
    DS4_FN uint32_t n_closed() const { return end() / ratio - first_window(); }
    // Slots of the open window come after those of the previous one.
    DS4_FN uint32_t open_slot(uint32_t position) const {
        return position % ratio + (overlapping ? ratio : 0);
    }
    DS4_FN uint32_t batch_row(uint32_t position) const {
        return static_cast<uint32_t>(segment.first_row) + position - start();
    }
    // Where the frontier of the last call has a token from before the segment.
    DS4_FN uint32_t frontier_slot(uint32_t position) const {
        return position >= first_window() * ratio ? open_slot(position) : position % ratio;
    }
};

DS4_FN Stream stream_of(DS4_ARGS CompressArgs& a, uint32_t segment) {
    const DS4_GLOBAL HistoryArgs& h = a.batch.history[segment];
    return {a.batch.segments[segment], a.of_indexer != 0 ? h.indexer_compressor : h.compressor, a.ratio,
            a.width, a.width == 2 * a.dim};
}

// Channel i of the token at `position`, which stands in the batch or in the frontier that the last call left.
DS4_FN float value_at(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& s, uint32_t position, uint32_t i) {
    if (position >= s.start()) return a.value[static_cast<int64_t>(s.batch_row(position)) * s.width + i];
    return s.frontier.value[s.frontier_slot(position) * s.width + i];
}
// Scores with ape.
DS4_FN float score_at(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& s, uint32_t position, uint32_t i) {
    if (position < s.start()) return s.frontier.score[s.frontier_slot(position) * s.width + i];
    return a.ape[position % s.ratio * s.width + i] +
           a.score[static_cast<int64_t>(s.batch_row(position)) * s.width + i];
}

// The slots that a window sees. Tokens of the previous window speak through the first half of their channels,
// those of the closed one through the second (ratio 4).
struct WindowSlots {
    uint32_t n, skipped;  // skipped: before the first token
    uint32_t first;       // position in slot `skipped`

    DS4_FN uint32_t position(uint32_t k) const { return first + k - skipped; }
};
DS4_FN WindowSlots slots_of(const DS4_LOCAL Stream& s, uint32_t window) {
    const uint32_t n = s.overlapping ? 2 * s.ratio : s.ratio;
    const uint32_t skipped = s.overlapping && window == 0 ? s.ratio : 0;
    return {n, skipped, (window + 1) * s.ratio - (n - skipped)};
}
DS4_FN uint32_t channel_of(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& s, uint32_t k,
                           uint32_t channel) {
    return channel + (s.overlapping && k >= s.ratio ? a.dim : 0);
}

constexpr uint32_t kFewSlots = 8;

// Softmax over the slots of one channel: kFewSlots at a time are loaded before any of them is used.
DS4_FN float pool(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& s, uint32_t window, uint32_t channel) {
    const WindowSlots slots = slots_of(s, window);
    const auto score = [&](uint32_t k) {
        return score_at(a, s, slots.position(k), channel_of(a, s, k, channel));
    };
    float top = as_float(0xff800000u);  // -infinity
    float few[kFewSlots];
    for (uint32_t first = slots.skipped; first < slots.n; first += kFewSlots) {
        DS4_UNROLL
        for (uint32_t i = 0; i < kFewSlots; ++i) few[i] = first + i < slots.n ? score(first + i) : top;
        DS4_UNROLL
        for (uint32_t i = 0; i < kFewSlots; ++i) top = larger(top, few[i]);
    }
    float sum = 0;
    float weighted = 0;
    for (uint32_t first = slots.skipped; first < slots.n; first += kFewSlots) {
        float value[kFewSlots];
        DS4_UNROLL
        for (uint32_t i = 0; i < kFewSlots; ++i) {
            const uint32_t k = first + i;
            value[i] = 0;
            if (k >= slots.n) continue;
            if (slots.n > kFewSlots) few[i] = score(k);
            value[i] = value_at(a, s, slots.position(k), channel_of(a, s, k, channel));
        }
        DS4_UNROLL
        for (uint32_t i = 0; i < kFewSlots; ++i) {
            if (first + i >= slots.n) continue;
            const float e = exp(few[i] - top);
            sum += e;
            weighted = fma(e, value[i], weighted);
        }
    }
    return weighted / sum;
}

// Norm, rotation and rounding of the pooled row.
DS4_FN void finish_row(Thread t, DS4_ARGS CompressArgs& a, uint32_t window, DS4_SHARED HeadShared& s) {
    norm_head(t, a.norm, a.dim, a.rms_eps, s);
    rotate_head(t, a.dim, a.n_dims, static_cast<float>(window * a.ratio), a.frequency, 1, s);
    if (a.finish == 1) {
        round_head_fp8(t, a.dim, a.n_dims, false, s);
    } else if (a.finish == 2 && t.simd == 0) {
        float v[kHadamardParts];
        DS4_UNROLL
        for (uint32_t k = 0; k < kHadamardParts; ++k) {
            v[k] = k * kSimdWidth < a.dim ? s.row[k * kSimdWidth + t.lane] : 0;
        }
        hadamard_fp4(t, v, a.dim, a.hadamard_scale, true);
        DS4_UNROLL
        for (uint32_t k = 0; k < kHadamardParts; ++k) {
            if (k * kSimdWidth < a.dim) s.row[k * kSimdWidth + t.lane] = v[k];
        }
    }
    group_barrier(t);
}

// The row that a window becomes, by the whole group.
DS4_FN void emit_window(Thread t, DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& stream, uint32_t segment,
                        uint32_t window, DS4_SHARED HeadShared& s) {
    for (uint32_t i = t.index; i < a.dim; i += t.n_threads) s.row[i] = pool(a, stream, window, i);
    finish_row(t, a, window, s);
    const DS4_GLOBAL HistoryArgs& h = a.batch.history[segment];
    const PagedRowsArgs rows = a.of_indexer != 0 ? h.indexer : h.compressed;
    store_kv(t, rows.format, s.row, kv_row(rows, window));
}

// What a slot of the frontier becomes: item / width of the open window, channel item % width, and if a window
// has closed the slot of the same place in the previous one.
struct SlotMove {
    bool sets_previous, sets_open;
    float previous_value, previous_score, open_value, open_score;
};

DS4_FN SlotMove slot_move(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& stream, uint32_t item) {
    const uint32_t i = item % a.width;
    const uint32_t open = stream.end() / a.ratio * a.ratio + item / a.width;
    const bool closes = stream.n_closed() > 0;
    const bool is_new = open >= stream.start() && open < stream.end();
    SlotMove m = {closes && stream.overlapping, closes || is_new, 0, 0, 0,
                  as_float(0xff800000u)};  // -infinity
    if (m.sets_previous) {
        m.previous_value = value_at(a, stream, open - a.ratio, i);
        m.previous_score = score_at(a, stream, open - a.ratio, i);
    }
    if (is_new) {
        m.open_value = value_at(a, stream, open, i);
        m.open_score = score_at(a, stream, open, i);
    }
    return m;
}

DS4_FN void store_slot(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& stream, uint32_t item,
                       const DS4_LOCAL SlotMove& m) {
    if (m.sets_previous) {
        stream.frontier.value[item] = m.previous_value;
        stream.frontier.score[item] = m.previous_score;
    }
    if (m.sets_open) {
        const uint32_t at = stream.open_slot(item / a.width) * a.width + item % a.width;
        stream.frontier.value[at] = m.open_value;
        stream.frontier.score[at] = m.open_score;
    }
}

// Grid: (most windows that a segment closes, segments)
DS4_KERNEL(compress_emit, CompressArgs, HeadShared) {
    const Stream stream = stream_of(a, t.group_y);
    if (t.group >= stream.n_closed()) return;
    emit_window(t, a, stream, t.group_y, stream.first_window() + t.group, s);
}

// Leaves the canonical frontier after the segment, model.md 7.1. Grid: (segments, parts of ratio * width)
DS4_KERNEL(compress_move, CompressArgs, NoShared) {
    const uint32_t item = t.group_y * t.n_threads + t.index;
    if (item >= a.ratio * a.width) return;
    const Stream stream = stream_of(a, t.group);
    store_slot(a, stream, item, slot_move(a, stream, item));
}

// Both for a short segment, by one group. Where no window closes only the segment's own slots move.
DS4_FN void compress_segment(Thread t, DS4_ARGS CompressArgs& a, uint32_t segment, DS4_SHARED HeadShared& s) {
    const Stream stream = stream_of(a, segment);
    const uint32_t n_closed = stream.n_closed();
    for (uint32_t w = 0; w < n_closed; ++w) {
        emit_window(t, a, stream, segment, stream.first_window() + w, s);
        group_barrier(t);
    }
    const uint32_t first = n_closed > 0 ? 0 : stream.start() % a.ratio * a.width;
    const uint32_t n = (n_closed > 0 ? a.ratio : stream.end() - stream.start()) * a.width;
    // No slot is read but by who writes it: loads of several go ahead of the stores.
    constexpr uint32_t kAtOnce = 4;
    for (uint32_t i = t.index; i < n; i += kAtOnce * t.n_threads) {
        SlotMove m[kAtOnce];
        DS4_UNROLL
        for (uint32_t k = 0; k < kAtOnce; ++k) {
            if (i + k * t.n_threads < n) m[k] = slot_move(a, stream, first + i + k * t.n_threads);
        }
        DS4_UNROLL
        for (uint32_t k = 0; k < kAtOnce; ++k) {
            if (i + k * t.n_threads < n) store_slot(a, stream, first + i + k * t.n_threads, m[k]);
        }
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
