#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/formats.h"
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
    const float ape = weight_value(a.ape_type, a.ape + position % s.ratio * a.ape_row_bytes, i);
    return ape + a.score[static_cast<int64_t>(s.batch_row(position)) * s.width + i];
}

// Softmax over the slots of one channel. Tokens of the previous window speak through the first half of their
// channels, those of the closed one through the second (ratio 4).
DS4_FN float pool(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& s, uint32_t window, uint32_t channel) {
    const uint32_t n_slots = s.overlapping ? 2 * s.ratio : s.ratio;
    const bool has_previous = s.overlapping && window > 0;
    const uint32_t skipped = s.overlapping && !has_previous ? s.ratio : 0;  // slots before the first token
    const uint32_t first = (window + 1) * s.ratio - (n_slots - skipped);
    float top = 0;
    for (uint32_t k = skipped; k < n_slots; ++k) {
        const uint32_t i = channel + (s.overlapping && k >= s.ratio ? a.dim : 0);
        const float score = score_at(a, s, first + k - skipped, i);
        top = k == skipped ? score : larger(top, score);
    }
    float sum = 0;
    float weighted = 0;
    for (uint32_t k = skipped; k < n_slots; ++k) {
        const uint32_t i = channel + (s.overlapping && k >= s.ratio ? a.dim : 0);
        const float e = exp(score_at(a, s, first + k - skipped, i) - top);
        sum += e;
        weighted = fma(e, value_at(a, s, first + k - skipped, i), weighted);
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

// Slot `item / width` of the open window moves on, channel `item % width`. A slot of the previous window may
// come from the open slot of the same place: the same thread.
DS4_FN void move_slot(DS4_ARGS CompressArgs& a, const DS4_LOCAL Stream& stream, uint32_t item) {
    const uint32_t i = item % a.width;
    const uint32_t open = stream.end() / a.ratio * a.ratio + item / a.width;
    DS4_GLOBAL float* value = stream.frontier.value + i;
    DS4_GLOBAL float* score = stream.frontier.score + i;
    const uint32_t open_at = stream.open_slot(open) * a.width;
    if (stream.n_closed() > 0) {
        if (stream.overlapping) {
            const uint32_t at = item / a.width * a.width;
            const float v = value_at(a, stream, open - a.ratio, i);
            const float e = score_at(a, stream, open - a.ratio, i);
            value[at] = v;
            score[at] = e;
        }
        value[open_at] = 0;
        score[open_at] = as_float(0xff800000u);  // -infinity
    }
    if (open >= stream.start() && open < stream.end()) {
        value[open_at] = value_at(a, stream, open, i);
        score[open_at] = score_at(a, stream, open, i);
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
    if (item < a.ratio * a.width) move_slot(a, stream_of(a, t.group), item);
}

// Both for a short segment, by one group. Where no window closes only the segment's own slots move.
DS4_FN void compress_segment(Thread t, DS4_ARGS CompressArgs& a, uint32_t segment, DS4_SHARED HeadShared& s) {
    const Stream stream = stream_of(a, segment);
    const uint32_t n_closed = stream.n_closed();
    for (uint32_t w = 0; w < n_closed; ++w) {
        emit_window(t, a, stream, segment, stream.first_window() + w, s);
        group_barrier(t);
    }
    const uint32_t first = n_closed > 0 ? 0 : stream.start() % a.ratio;
    const uint32_t n_slots = n_closed > 0 ? a.ratio : stream.end() - stream.start();
    for (uint32_t i = t.index; i < n_slots * a.width; i += t.n_threads) {
        move_slot(a, stream, first * a.width + i);
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
