#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/kv_rows.h"
#include "backend/gpu/kernels/ordered.h"

// The indexer's choice of compressed rows, model.md 8. Scores of a bounded number of batch rows at a time go
// through memory; the top is found by a radix select over them, then one pass in row order keeps what is
// above the threshold and, of what is equal to it, the first: ties to the lower row, and an ascending list.
namespace ds4::gpu::DS4_DIALECT {

constexpr uint32_t kIndexRatio = 4;  // only these layers have an indexer
constexpr uint32_t kKeyTile = kSimdWidth;

// Compressed rows that a batch row sees.
DS4_FN uint32_t n_index_rows(DS4_ARGS BatchArgs& b, uint32_t row) {
    const SegmentArgs segment = b.segments[b.row_segment[row]];
    return static_cast<uint32_t>(segment.start + static_cast<int32_t>(row) - segment.first_row + 1) /
           kIndexRatio;
}

struct IndexScoresShared {
    SharedArray<float, kKeyTile*(kMaxIndexDim + 1)> keys;
    SharedArray<float, kMaxSimds * kKeyTile> sums;
};

// Scores of the keys [first, first + kKeyTile) of n. Lanes are keys, SIMD-groups take heads in turn.
DS4_FN void score_tile(Thread t, DS4_ARGS IndexScoresArgs& a, uint32_t n, uint32_t first,
                       DS4_SHARED IndexScoresShared& s) {
    const uint32_t row = a.first_row + t.group;
    const uint32_t n_keys = smaller(kKeyTile, n - first);
    const PagedRowsArgs rows = a.batch.history[a.batch.row_segment[row]].indexer;
    const uint32_t stride = a.head_dim + 1;
    for (uint32_t k = t.simd; k < n_keys; k += t.n_simds) {
        const DS4_GLOBAL uint8_t* key = kv_row(rows, first + k);
        for (uint32_t i = t.lane; i < a.head_dim; i += kSimdWidth) {
            s.keys[k * stride + i] = load_kv(rows.format, key, i);
        }
    }
    group_barrier(t);
    float sum = 0;
    if (t.lane < n_keys) {
        const DS4_GLOBAL float* q = a.q + static_cast<int64_t>(row) * a.n_heads * a.head_dim;
        for (uint32_t h = t.simd; h < a.n_heads; h += t.n_simds) {
            float dot = 0;
            for (uint32_t i = 0; i < a.head_dim; ++i) {
                dot = fma(q[h * a.head_dim + i], s.keys[t.lane * stride + i], dot);
            }
            sum = fma(a.weight[static_cast<int64_t>(row) * a.n_heads + h], larger(dot, 0.0f), sum);
        }
    }
    s.sums[t.simd * kKeyTile + t.lane] = sum;
    group_barrier(t);
    if (t.index >= n_keys) return;
    float total = 0;
    for (uint32_t i = 0; i < t.n_simds; ++i) total += s.sums[i * kKeyTile + t.index];
    a.scores[static_cast<int64_t>(t.group) * a.stride + first + t.index] = total;
}

DS4_KERNEL(index_scores, IndexScoresArgs, IndexScoresShared) {
    const uint32_t n = n_index_rows(a.batch, a.first_row + t.group);
    const uint32_t first = t.group_y * kKeyTile;
    if (n > a.capacity && first < n) score_tile(t, a, n, first, s);
}

constexpr uint32_t kBins = 256;

struct SelectShared {
    SharedArray<uint32_t, kBins> bins;
    SharedArray<uint32_t, kMaxSimds> above, equal;
    SharedArray<uint32_t, 2> found;  // bin, keys above it
};

// Finds the bin that holds the key of rank `wanted` (from 1) counted from the top, by SIMD-group 0, eight
// bins a lane.
DS4_FN void find_bin(Thread t, uint32_t wanted, DS4_SHARED SelectShared& s) {
    constexpr uint32_t kPerLane = kBins / kSimdWidth;
    const uint32_t first = kBins - kPerLane * (t.lane + 1);  // lane 0 has the top bins
    uint32_t mine = 0;
    for (uint32_t i = 0; i < kPerLane; ++i) mine += s.bins[first + i];
    uint32_t above = mine;  // in bins of this lane and the lanes before it
    for (uint32_t step = 1; step < kSimdWidth; step *= 2) {
        const uint32_t other = simd_shuffle(t, above, t.lane - step);
        if (t.lane >= step) above += other;
    }
    above -= mine;
    if (above >= wanted || above + mine < wanted) return;
    uint32_t bin = first + kPerLane - 1;
    for (; above + s.bins[bin] < wanted; --bin) above += s.bins[bin];
    s.found[0] = bin;
    s.found[1] = above;
}

// The key of rank `wanted` among n; on return `wanted` is its rank among its equals.
DS4_FN uint32_t find_threshold(Thread t, const DS4_GLOBAL float* scores, uint32_t n,
                               DS4_LOCAL uint32_t& wanted, DS4_SHARED SelectShared& s) {
    uint32_t prefix = 0;
    for (uint32_t shift = 32; shift > 0;) {
        shift -= 8;
        s.bins[t.index] = 0;
        group_barrier(t);
        for (uint32_t i = t.index; i < n; i += t.n_threads) {
            const uint32_t key = ordered(scores[i]);
            const bool fits = shift == 24 || key >> (shift + 8) == prefix >> (shift + 8);
            if (fits) atomic_add(s.bins[key >> shift & 255], 1u);
        }
        group_barrier(t);
        if (t.simd == 0) find_bin(t, wanted, s);
        group_barrier(t);
        prefix |= s.found[0] << shift;
        wanted -= s.found[1];
    }
    return prefix;
}

// All of n rows.
DS4_FN void select_all(Thread t, uint32_t n, DS4_GLOBAL int32_t* list, DS4_GLOBAL int32_t* count) {
    if (t.index == 0) *count = static_cast<int32_t>(n);
    for (uint32_t i = t.index; i < n; i += t.n_threads) list[i] = static_cast<int32_t>(i);
}

// The best `capacity` of n > capacity rows, by a group of kBins threads.
DS4_FN void select_best(Thread t, const DS4_GLOBAL float* scores, uint32_t n, uint32_t capacity,
                        DS4_GLOBAL int32_t* list, DS4_GLOBAL int32_t* count, DS4_SHARED SelectShared& s) {
    if (t.index == 0) *count = static_cast<int32_t>(capacity);
    uint32_t n_equal_kept = capacity;
    const uint32_t threshold = find_threshold(t, scores, n, n_equal_kept, s);

    uint32_t n_above = 0;  // so far
    uint32_t n_equal = 0;
    for (uint32_t first = 0; first < n; first += t.n_threads) {
        const uint32_t i = first + t.index;
        const uint32_t key = i < n ? ordered(scores[i]) : 0;
        const bool is_above = i < n && key > threshold;
        const bool is_equal = i < n && key == threshold;
        const uint32_t above_bits = simd_ballot(t, is_above);
        const uint32_t equal_bits = simd_ballot(t, is_equal);
        if (t.lane == 0) {
            s.above[t.simd] = popcount(above_bits);
            s.equal[t.simd] = popcount(equal_bits);
        }
        group_barrier(t);
        const uint32_t before = (1u << t.lane) - 1;
        uint32_t above_at = n_above + popcount(above_bits & before);
        uint32_t equal_at = n_equal + popcount(equal_bits & before);
        for (uint32_t k = 0; k < t.n_simds; ++k) {
            if (k < t.simd) above_at += s.above[k];
            if (k < t.simd) equal_at += s.equal[k];
            n_above += s.above[k];
            n_equal += s.equal[k];
        }
        if (is_above || (is_equal && equal_at < n_equal_kept)) {
            list[above_at + smaller(equal_at, n_equal_kept)] = static_cast<int32_t>(i);
        }
        group_barrier(t);
    }
}

DS4_KERNEL(select_rows, SelectArgs, SelectShared) {
    const uint32_t row = a.first_row + t.group;
    const uint32_t n = n_index_rows(a.batch, row);
    DS4_GLOBAL int32_t* list = a.rows + static_cast<int64_t>(row) * a.capacity;
    if (n <= a.capacity) return select_all(t, n, list, a.count + row);
    select_best(t, a.scores + static_cast<int64_t>(t.group) * a.stride, n, a.capacity, list, a.count + row,
                s);
}

struct IndexSelectShared {
    IndexScoresShared scores;
    SelectShared select;
    SharedArray<uint32_t, 1> arrived;  // before this group
};

DS4_KERNEL(index_select, IndexSelectArgs, IndexSelectShared) {
    const uint32_t row = a.scores.first_row + t.group;
    const uint32_t capacity = a.scores.capacity;
    const uint32_t n = n_index_rows(a.scores.batch, row);
    const uint32_t first = t.group_y * kKeyTile;
    DS4_GLOBAL int32_t* list = a.rows + static_cast<int64_t>(row) * capacity;
    if (n <= capacity) {
        if (t.group_y == 0) select_all(t, n, list, a.count + row);
        return;
    }
    if (first >= n) return;
    score_tile(t, a.scores, n, first, s.scores);
    device_fence(t);
    group_barrier(t);
    if (t.index == 0) s.arrived[0] = atomic_add(a.arrived[t.group], 1u);
    group_barrier(t);
    if (s.arrived[0] + 1 != (n + kKeyTile - 1) / kKeyTile) return;
    device_fence(t);
    if (t.index == 0) a.arrived[t.group] = 0;
    select_best(t, a.scores.scores + static_cast<int64_t>(t.group) * a.scores.stride, n, capacity, list,
                a.count + row, s.select);
}

}  // namespace ds4::gpu::DS4_DIALECT
