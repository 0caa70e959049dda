#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/kv_rows.h"
#include "backend/gpu/kernels/rows.h"

// The portable attention, model.md 6: a thread group takes a batch row and a tile of heads, one per
// SIMD-group. What a row sees is a list: the window from old to new, then compressed rows ascending. The list
// is cut into pieces of kPiece by place, each piece has a softmax of its own, and pieces are merged in order.
// The whole form does so in one group, the split form has a group per piece and merges in a second launch:
// the same operations, the same bits.
namespace ds4::gpu::DS4_DIALECT {

constexpr uint32_t kPiece = 64;     // keys
constexpr uint32_t kTileKeys = 16;  // decoded into shared memory at a time
constexpr uint32_t kDimParts = kMaxHeadDim / kSimdWidth;

struct AttentionShared {
    SharedArray<float, kTileKeys*(kMaxHeadDim + 1)> keys;
    SharedArray<float, kMaxSimds * kTileKeys> weights;
};

// What one batch row sees.
struct Visible {
    SegmentArgs segment;
    const DS4_GLOBAL float* ring;    // (window_rows, D)
    const DS4_GLOBAL float* kv;      // (n, D)
    const DS4_GLOBAL int32_t* list;  // or null
    PagedRowsArgs compressed;
    uint32_t window_rows;
    uint32_t oldest, n_raw, n;
};

// All that the step table says: n is without the rows of a selection.
DS4_FN Visible known_rows(DS4_ARGS AttentionArgs& a, uint32_t row) {
    const uint32_t segment = static_cast<uint32_t>(a.batch.row_segment[row]);
    const DS4_GLOBAL HistoryArgs& h = a.batch.history[segment];
    Visible v = {a.batch.segments[segment], h.window, a.kv, nullptr, h.compressed, h.window_rows, 0, 0, 0};
    const uint32_t position =
        static_cast<uint32_t>(v.segment.start + static_cast<int32_t>(row) - v.segment.first_row);
    v.oldest = position + 1 > a.window ? position + 1 - a.window : 0;
    v.n_raw = position + 1 - v.oldest;
    v.n = v.n_raw;
    if (a.ratio == 0) return v;
    if (a.list != nullptr) {
        v.list = a.list + static_cast<int64_t>(row) * a.capacity;
    } else {
        v.n += (position + 1) / a.ratio;
    }
    return v;
}

DS4_FN Visible visible_rows(DS4_ARGS AttentionArgs& a, uint32_t row) {
    Visible v = known_rows(a, row);
    if (v.list != nullptr) v.n += static_cast<uint32_t>(a.count[row]);
    return v;
}

// Row i of the list goes to shared memory, by one SIMD-group.
DS4_FN void load_key(Thread t, const DS4_LOCAL Visible& v, uint32_t i, uint32_t width, uint32_t to,
                     DS4_SHARED AttentionShared& s) {
    if (i < v.n_raw) {
        const uint32_t position = v.oldest + i;
        const uint32_t start = static_cast<uint32_t>(v.segment.start);
        const DS4_GLOBAL float* row =
            position >= start
                ? v.kv + static_cast<int64_t>(static_cast<uint32_t>(v.segment.first_row) + position - start) *
                             width
                : v.ring + static_cast<int64_t>(position % v.window_rows) * width;
        for (uint32_t d = t.lane; d < width; d += kSimdWidth) s.keys[to + d] = row[d];
    } else {
        const uint32_t c = i - v.n_raw;
        const uint32_t index = v.list != nullptr ? static_cast<uint32_t>(v.list[c]) : c;
        const DS4_GLOBAL uint8_t* row = kv_row(v.compressed, index);
        for (uint32_t d = t.lane; d < width; d += kSimdWidth)
            s.keys[to + d] = load_kv(v.compressed.format, row, d);
    }
}

// The softmax of one head over some keys: the largest score, the sum of exp(score - top), and the same sum
// over the keys, of which a lane has dims lane, lane + 32, ...
struct Softmax {
    float top, sum;
    float acc[kDimParts];
};

DS4_FN void clear(DS4_LOCAL Softmax& x, float top, float sum) {
    x.top = top;
    x.sum = sum;
    DS4_UNROLL
    for (uint32_t j = 0; j < kDimParts; ++j) x.acc[j] = 0;
}

// x = x and y together.
DS4_FN void merge(DS4_LOCAL Softmax& x, const DS4_LOCAL Softmax& y) {
    const float top = larger(x.top, y.top);
    const float of_x = exp(x.top - top);
    const float of_y = exp(y.top - top);
    x.top = top;
    x.sum = x.sum * of_x + y.sum * of_y;
    DS4_UNROLL
    for (uint32_t j = 0; j < kDimParts; ++j) x.acc[j] = x.acc[j] * of_x + y.acc[j] * of_y;
}

// Takes the n_keys keys in shared memory into x. q (D) of this SIMD-group's head.
DS4_FN void attend_tile(Thread t, const DS4_GLOBAL float* q, uint32_t width, float scale, uint32_t n_keys,
                        DS4_LOCAL Softmax& x, DS4_SHARED AttentionShared& s) {
    const uint32_t stride = width + 1;
    // Two lanes per key, each with every second dim.
    const uint32_t key = t.lane % kTileKeys;
    float dot = 0;
    if (key < n_keys) {
        for (uint32_t d = t.lane / kTileKeys; d < width; d += 2)
            dot = fma(q[d], s.keys[key * stride + d], dot);
    }
    dot += simd_shuffle_xor(t, dot, kTileKeys);
    const float score = key < n_keys ? scale * dot : as_float(0xff800000u);  // -infinity
    const float top = larger(x.top, simd_max(t, score));
    const float weight = t.lane < kTileKeys ? exp(score - top) : 0;
    const float shrink = exp(x.top - top);
    x.sum = x.sum * shrink + simd_sum(t, weight);
    x.top = top;
    if (t.lane < kTileKeys) s.weights[t.simd * kTileKeys + t.lane] = weight;
    simd_barrier(t);
    DS4_UNROLL
    for (uint32_t j = 0; j < kDimParts; ++j) {
        const uint32_t d = j * kSimdWidth + t.lane;
        if (d >= width) continue;
        float acc = x.acc[j] * shrink;
        for (uint32_t k = 0; k < n_keys; ++k) {
            acc = fma(s.weights[t.simd * kTileKeys + k], s.keys[k * stride + d], acc);
        }
        x.acc[j] = acc;
    }
}

// Piece `piece` of the list, by the whole group.
DS4_FN void attend_piece(Thread t, DS4_ARGS AttentionArgs& a, const DS4_LOCAL Visible& v, uint32_t piece,
                         const DS4_GLOBAL float* q, bool has_head, DS4_LOCAL Softmax& x,
                         DS4_SHARED AttentionShared& s) {
    clear(x, as_float(0xff800000u), 0);
    const uint32_t end = smaller(v.n, (piece + 1) * kPiece);
    for (uint32_t first = piece * kPiece; first < end; first += kTileKeys) {
        const uint32_t n_keys = smaller(kTileKeys, end - first);
        group_barrier(t);
        for (uint32_t k = t.simd; k < n_keys; k += t.n_simds) {
            load_key(t, v, first + k, a.head_dim, k * (a.head_dim + 1), s);
        }
        group_barrier(t);
        if (has_head) attend_tile(t, q, a.head_dim, a.scale, n_keys, x, s);
    }
}

// Which row and head a SIMD-group has.
struct RowAndHead {
    uint32_t row, head;
    bool has_head;
    int64_t q;  // offset of its query, and of its output
};

DS4_FN RowAndHead row_and_head(Thread t, DS4_ARGS AttentionArgs& a) {
    const uint32_t n_tiles = (a.n_heads + t.n_simds - 1) / t.n_simds;
    RowAndHead at = {a.first_row + t.group / n_tiles, t.group % n_tiles * t.n_simds + t.simd, false, 0};
    at.has_head = at.head < a.n_heads;
    at.q = (static_cast<int64_t>(at.row) * a.n_heads + at.head) * a.head_dim;
    return at;
}

// The result of a head of `row`, rotated. A pair is in neighbouring lanes.
DS4_FN void store_output(Thread t, DS4_ARGS AttentionArgs& a, uint32_t row, const DS4_LOCAL Softmax& x,
                         DS4_GLOBAL float* out) {
    const float scale = 1.0f / x.sum;
    const uint32_t n_plain = a.head_dim - a.n_dims;
    DS4_UNROLL
    for (uint32_t j = 0; j < kDimParts; ++j) {
        const uint32_t d = j * kSimdWidth + t.lane;
        const float own = x.acc[j] * scale;
        const float other = simd_shuffle_xor(t, own, 1);
        if (d >= a.head_dim) continue;
        out[d] = own;
        if (d < n_plain) continue;
        const Turn turn =
            turn_of(static_cast<float>(a.positions[row]) * a.frequency[(d - n_plain) / 2], a.direction);
        out[d] = d % 2 == 0 ? turn.first(own, other) : turn.second(other, own);
    }
}

DS4_KERNEL(attention_whole, AttentionArgs, AttentionShared) {
    const RowAndHead at = row_and_head(t, a);
    const Visible v = visible_rows(a, at.row);
    Softmax all;
    clear(all, at.has_head ? a.sinks[at.head] : 0, 1);  // the sink is a score without a value
    for (uint32_t piece = 0; piece * kPiece < v.n; ++piece) {
        Softmax one;
        attend_piece(t, a, v, piece, a.q + at.q, at.has_head, one, s);
        if (at.has_head) merge(all, one);
    }
    if (at.has_head) store_output(t, a, at.row, all, a.out + at.q);
}

DS4_FN int64_t partial_at(DS4_ARGS AttentionArgs& a, const DS4_LOCAL RowAndHead& at, uint32_t piece) {
    return ((static_cast<int64_t>(at.row - a.first_row) * a.n_heads + at.head) * a.n_pieces + piece) *
           (a.head_dim + 2);
}

DS4_KERNEL(attention_split, AttentionArgs, AttentionShared) {
    const RowAndHead at = row_and_head(t, a);
    const Visible v = visible_rows(a, at.row);
    if (t.group_y * kPiece >= v.n) return;
    Softmax one;
    attend_piece(t, a, v, t.group_y, a.q + at.q, at.has_head, one, s);
    if (!at.has_head) return;
    DS4_GLOBAL float* out = a.partial + partial_at(a, at, t.group_y);
    DS4_UNROLL
    for (uint32_t j = 0; j < kDimParts; ++j) {
        const uint32_t d = j * kSimdWidth + t.lane;
        if (d < a.head_dim) out[d] = one.acc[j];
    }
    if (t.lane == 0) out[a.head_dim] = one.top;
    if (t.lane == 0) out[a.head_dim + 1] = one.sum;
}

// The last window_rows rows of each segment go to the ring.
DS4_FN void store_window_row(Thread t, DS4_ARGS BatchArgs& batch, const DS4_GLOBAL float* kv, uint32_t row,
                             uint32_t width) {
    const uint32_t segment = static_cast<uint32_t>(batch.row_segment[row]);
    const SegmentArgs of = batch.segments[segment];
    const DS4_GLOBAL HistoryArgs& h = batch.history[segment];
    const uint32_t i = row - static_cast<uint32_t>(of.first_row);
    if (i + h.window_rows < static_cast<uint32_t>(of.n_rows)) return;
    const uint32_t slot = (static_cast<uint32_t>(of.start) + i) % h.window_rows;
    const DS4_GLOBAL float* from = kv + static_cast<int64_t>(row) * width;
    DS4_GLOBAL float* to = h.window + static_cast<int64_t>(slot) * width;
    for (uint32_t d = t.index; d < width; d += t.n_threads) to[d] = from[d];
}

DS4_KERNEL(store_window, StoreWindowArgs, NoShared) {
    store_window_row(t, a.batch, a.kv, t.group, a.width);
}

DS4_KERNEL(attention_merge, AttentionArgs, NoShared) {
    const RowAndHead at = row_and_head(t, a);
    if (at.row >= a.first_row + a.n_rows) {
        const uint32_t n_before = a.n_rows * ((a.n_heads + t.n_simds - 1) / t.n_simds);
        store_window_row(t, a.batch, a.kv, a.first_row + t.group - n_before, a.head_dim);
        return;
    }
    if (!at.has_head) return;
    const Visible v = visible_rows(a, at.row);
    Softmax all;
    clear(all, a.sinks[at.head], 1);
    for (uint32_t piece = 0; piece * kPiece < v.n; ++piece) {
        const DS4_GLOBAL float* from = a.partial + partial_at(a, at, piece);
        Softmax one;
        DS4_UNROLL
        for (uint32_t j = 0; j < kDimParts; ++j) {
            const uint32_t d = j * kSimdWidth + t.lane;
            one.acc[j] = d < a.head_dim ? from[d] : 0;
        }
        one.top = from[a.head_dim];
        one.sum = from[a.head_dim + 1];
        merge(all, one);
    }
    store_output(t, a, at.row, all, a.out + at.q);
}

}  // namespace ds4::gpu::DS4_DIALECT
