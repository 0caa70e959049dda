#pragma once

#include "backend/gpu/cuda/kv_fragments.h"
#include "backend/gpu/kernels/attention.h"

// What attention's bodies on matrix units share: rows on their way to shared memory, results on their way
// out.
namespace ds4::gpu::cuda {

constexpr uint32_t kDims = kMaxHeadDim;
constexpr uint32_t kGroups = kDims / 8;  // of eight halves
constexpr float kLog2E = 1.4426950408889634f;

// Rows of halves in shared memory, from a multiple of 1024 bytes: columns of 64 dims, in them rows of 128
// bytes whose 16-byte groups change places by row % 8, as wgmma_columns wants them.
template <uint32_t n_rows>
DS4_DEVICE uint32_t place_of(uint32_t row, uint32_t group) {
    return group / 8 * (128 * n_rows) + row * 128 + (((group ^ row) & 7) << 4);
}
DS4_DEVICE void store16(uint8_t* to, uint4 v) {
    *reinterpret_cast<uint4*>(to) = v;
}

// (heads, kDims)
template <uint32_t heads, uint32_t n_threads>
DS4_DEVICE void load_queries(const float* q, uint8_t* queries) {
    constexpr uint32_t kAtOnce = heads > 16 ? 8 : 4;
#pragma unroll kAtOnce
    for (uint32_t i = threadIdx.x; i < heads * kGroups; i += n_threads) {
        const float4* from = reinterpret_cast<const float4*>(q) + 2 * i;
        store16(queries + place_of<heads>(i / kGroups, i % kGroups),
                halves_of(__ldcg(from), __ldcg(from + 1)));
    }
}

// Where row i of the list is; null: it has ended.
DS4_DEVICE const uint8_t* row_of(const Visible& v, uint32_t i) {
    if (i >= v.n) return nullptr;
    if (i >= v.n_raw) {
        const uint32_t c = i - v.n_raw;
        return kv_row(v.compressed, v.list != nullptr ? static_cast<uint32_t>(v.list[c]) : c);
    }
    const uint32_t position = v.oldest + i, start = static_cast<uint32_t>(v.segment.start);
    const float* row =
        position >= start
            ? v.kv +
                  static_cast<int64_t>(static_cast<uint32_t>(v.segment.first_row) + position - start) * kDims
            : v.ring + static_cast<int64_t>(position % v.window_rows) * kDims;
    return reinterpret_cast<const uint8_t*>(row);
}

// Whether rows i .. i + n - 1 of the list are there before the predecessor has ended. Without a selection
// those of earlier steps, for the predecessor may write the others; with one, which is the predecessor, those
// of the window.
template <uint32_t n>
DS4_DEVICE bool rows_written(const AttentionArgs& a, const Visible& v, uint32_t i) {
    const uint32_t start = static_cast<uint32_t>(v.segment.start), end = i + n;
    if (end <= v.n_raw) return v.list != nullptr || v.oldest + end <= start;
    return v.list == nullptr && i >= v.n_raw && end <= v.n && end - v.n_raw <= start / a.ratio;
}

// n rows of one kind at a time, so that their loads are in flight together.
template <class Raw, uint32_t n, class Row, class Load>
DS4_DEVICE void load_alike(const Row& row, uint32_t key, uint8_t* keys, const Load& load_group) {
    const uint32_t lane = threadIdx.x % 32;
    Raw raw[n][2];
#pragma unroll
    for (uint32_t r = 0; r < n; ++r) {
        const uint8_t* from = row(r);
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) raw[r][j] = load_group(from, lane + 32 * j);
    }
#pragma unroll
    for (uint32_t r = 0; r < n; ++r) {
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j)
            store16(keys + place_of<kPiece>(key + r, lane + 32 * j), halves_of(raw[r][j]));
    }
}

// Not inlined: formats that are rare, and a lot of code.
static __device__ __noinline__ uint4 any_halves(KvFormatArgs f, bool is_raw, const uint8_t* row,
                                                uint32_t group) {
    if (row == nullptr) return make_uint4(0, 0, 0, 0);
    return is_raw ? halves_of(load_plain_group(row, group)) : stored_halves(f, row, group);
}

// Rows i .. i + n - 1 of the list become keys key .. key + n - 1 of a piece, by a warp; those that are not
// there are 0. row(r): where row i + r is.
template <uint32_t n, class Row>
DS4_DEVICE void load_keys(const Visible& v, uint32_t i, const Row& row, uint32_t key, uint8_t* keys) {
    constexpr uint32_t kTail = 64;  // of the rows that are FP8; others of that kind are rare
    const KvFormatArgs& format = v.compressed.format;
    if (i + n <= v.n_raw) {
        load_alike<PlainGroup, n>(row, key, keys, [](const uint8_t* from, uint32_t group) {
            return load_plain_group(from, group);
        });
    } else if (i >= v.n_raw && i + n <= v.n && format.code == kKvFp8 && format.n_tail == kTail) {
        load_alike<PackedGroup, n>(row, key, keys, [](const uint8_t* from, uint32_t group) {
            return load_fp8_group(kDims - kTail, from, group);
        });
    } else {
#pragma unroll 1
        for (uint32_t r = 0; r < n; ++r) {
            const uint8_t* from = row(r);
#pragma unroll 1
            for (uint32_t group = threadIdx.x % 32; group < kGroups; group += 32) {
                store16(keys + place_of<kPiece>(key + r, group),
                        any_halves(format, i + r < v.n_raw, from, group));
            }
        }
    }
}

// Two neighbouring dims of a head's result, from `dim` on. turn: of that pair, if it is rotated.
DS4_DEVICE void store_pair(float x, float y, const Turn* turn, float* to) {
    *reinterpret_cast<float2*>(to) =
        turn != nullptr ? make_float2(turn->first(x, y), turn->second(x, y)) : make_float2(x, y);
}
// How pair i of the dims that are rotated is.
DS4_DEVICE Turn turn_of_pair(const AttentionArgs& a, uint32_t row, uint32_t i) {
    return turn_of(static_cast<float>(a.positions[row]) * a.frequency[i], a.direction);
}

}  // namespace ds4::gpu::cuda
