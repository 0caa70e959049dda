#pragma once

#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/kernels/select.h"

// The choice of the best rows of kernels/select.h by a block of kSelectThreads, with the same result: a radix
// select over digits of 11, 11 and 10 bits, then one pass that counts what each warp keeps and one that
// writes. Scores of up to kStaged rows are read once.
namespace ds4::gpu::cuda {

constexpr uint32_t kSelectThreads = 512, kSelectWarps = kSelectThreads / 32;
constexpr uint32_t kDigits = 2048, kDigitsOfThread = kDigits / kSelectThreads;
constexpr uint32_t kStaged = 8192;

struct SelectRoom {
    alignas(16) uint32_t keys[kStaged];  // ordered(score)
    alignas(16) uint32_t bins[kDigits];
    uint32_t sum[kSelectWarps], equal[kSelectWarps];
    uint32_t digit, above, inside;  // the digit that is searched for, keys of larger ones, of it
};

// Keys 4 i .. 4 i + 3.
struct StagedKeys {
    const uint32_t* keys;
    DS4_DEVICE uint4 quad(uint32_t i) const { return reinterpret_cast<const uint4*>(keys)[i]; }
};
struct ScoredKeys {
    const float* scores;
    // From the L2: another block may have written them a moment ago.
    DS4_DEVICE uint4 quad(uint32_t i) const {
        const float4 s = __ldcg(reinterpret_cast<const float4*>(scores) + i);
        return make_uint4(ordered(s.x), ordered(s.y), ordered(s.z), ordered(s.w));
    }
};
DS4_DEVICE uint32_t part(const uint4& v, uint32_t i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// f(i, quad i) for quads first, first + step, ... below end, four of them in flight.
template <class Keys, class F>
DS4_DEVICE void for_quads(const Keys& keys, uint32_t first, uint32_t step, uint32_t end, const F& f) {
    constexpr uint32_t kBatch = 4;
#pragma unroll 1
    for (uint32_t i = first; i < end; i += kBatch * step) {
        uint4 quads[kBatch];
#pragma unroll
        for (uint32_t b = 0; b < kBatch; ++b) {
            if (i + b * step < end) quads[b] = keys.quad(i + b * step);
        }
#pragma unroll
        for (uint32_t b = 0; b < kBatch; ++b) {
            if (i + b * step < end) f(i + b * step, quads[b]);
        }
    }
}

// The sum of x over the threads before this one. After it a barrier before s.sum is used again.
DS4_DEVICE uint32_t sum_before(uint32_t x, SelectRoom& s) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t up_to = x;
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(kAllLanes, up_to, step);
        if (lane >= step) up_to += other;
    }
    if (lane == 31) s.sum[warp] = up_to;
    __syncthreads();
    return __reduce_add_sync(kAllLanes, lane < warp ? s.sum[lane] : 0) + up_to - x;
}

struct Threshold {
    uint32_t key;      // what is above it is kept,
    uint32_t n_equal;  // and as many as this of what is equal
};

// Finds the digit at `shift` of the key of rank n_equal among those that agree with t.key above it, and takes
// it into t.key; n_equal becomes the rank among those that agree with that, too. Returns how many there are.
template <uint32_t shift, uint32_t bits, class Keys>
DS4_DEVICE uint32_t find_digit(const Keys& keys, uint32_t n, Threshold& t, SelectRoom& s) {
    constexpr uint32_t kAbove = shift + bits;
    reinterpret_cast<uint4*>(s.bins)[threadIdx.x] = make_uint4(0, 0, 0, 0);
    __syncthreads();
    for_quads(keys, threadIdx.x, kSelectThreads, (n + 3) / 4, [&](uint32_t i, const uint4& quad) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            const uint32_t key = part(quad, j);
            bool fits = 4 * i + j < n;
            if constexpr (kAbove < 32) fits = fits && key >> kAbove == t.key >> kAbove;
            if (fits) atomicAdd(&s.bins[key >> shift & ((1u << bits) - 1)], 1u);
        }
    });
    __syncthreads();
    static_assert(kDigitsOfThread == 4);
    const uint32_t first = kDigits - 4 * (threadIdx.x + 1);  // the first thread has the largest digits
    const uint4 bins = *reinterpret_cast<const uint4*>(s.bins + first);
    const uint32_t mine = bins.x + bins.y + bins.z + bins.w;
    uint32_t above = sum_before(mine, s);
    if (above < t.n_equal && above + mine >= t.n_equal) {
        uint32_t digit = 3;
        for (; above + part(bins, digit) < t.n_equal; --digit) above += part(bins, digit);
        s.digit = first + digit;
        s.above = above;
        s.inside = part(bins, digit);
    }
    __syncthreads();
    t.key |= s.digit << shift;
    t.n_equal -= s.above;
    return s.inside;
}

template <class Keys>
DS4_DEVICE Threshold find_threshold(const Keys& keys, uint32_t n, uint32_t capacity, SelectRoom& s) {
    Threshold t{0, capacity};
    // All that agree are wanted: they are the ones above the number before.
    const auto complete = [&](uint32_t n_inside) {
        if (n_inside != t.n_equal || t.key == 0) return false;
        t = {t.key - 1, 0};
        return true;
    };
    if (complete(find_digit<21, 11>(keys, n, t, s))) return t;
    if (complete(find_digit<10, 11>(keys, n, t, s))) return t;
    find_digit<0, 10>(keys, n, t, s);
    return t;
}

// Every warp has a stretch of the rows, a lane four of 128 at a time.
template <class Keys>
DS4_DEVICE void write_best(const Keys& keys, uint32_t n, const Threshold& t, int32_t* list, SelectRoom& s) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t stretch = (n + 128 * kSelectWarps - 1) / (128 * kSelectWarps) * 32;  // quads
    const uint32_t first = warp * stretch, n_quads = (n + 3) / 4;
    const uint32_t end = smaller(first + stretch, n_quads);
    uint32_t n_above = 0, n_equal = 0;  // of this lane
    for_quads(keys, first + lane, 32, end, [&](uint32_t i, const uint4& quad) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            n_above += 4 * i + j < n && part(quad, j) > t.key ? 1 : 0;
            n_equal += 4 * i + j < n && part(quad, j) == t.key ? 1 : 0;
        }
    });
    n_above = __reduce_add_sync(kAllLanes, n_above);
    n_equal = __reduce_add_sync(kAllLanes, n_equal);
    if (lane == 0) {
        s.sum[warp] = n_above;
        s.equal[warp] = n_equal;
    }
    __syncthreads();
    // Of the warps before, then of the rows before.
    uint32_t above_at = __reduce_add_sync(kAllLanes, lane < warp ? s.sum[lane] : 0);
    uint32_t equal_at = __reduce_add_sync(kAllLanes, lane < warp ? s.equal[lane] : 0);
    if (n_above + n_equal == 0) return;
    const uint32_t before = (1u << lane) - 1;
#pragma unroll 1
    for (uint32_t quad = first; quad < end; quad += 32) {
        const uint32_t i = quad + lane;
        const uint4 four = i < end ? keys.quad(i) : make_uint4(0, 0, 0, 0);
        uint32_t above_here = above_at, equal_here = equal_at;
        uint32_t is_above[4], is_equal[4];
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            const bool there = i < end && 4 * i + j < n;
            is_above[j] = __ballot_sync(kAllLanes, there && part(four, j) > t.key);
            is_equal[j] = __ballot_sync(kAllLanes, there && part(four, j) == t.key);
            above_here += popcount(is_above[j] & before);
            equal_here += popcount(is_equal[j] & before);
            above_at += popcount(is_above[j]);
            equal_at += popcount(is_equal[j]);
        }
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            const bool above = is_above[j] >> lane & 1, equal = is_equal[j] >> lane & 1;
            if (above || (equal && equal_here < t.n_equal))
                list[above_here + smaller(equal_here, t.n_equal)] = static_cast<int32_t>(4 * i + j);
            above_here += above ? 1 : 0;
            equal_here += equal ? 1 : 0;
        }
    }
}

// The best `capacity` of n > capacity rows. Scores from a multiple of 16 bytes, room for a multiple of four.
DS4_DEVICE void choose_best(const float* scores, uint32_t n, uint32_t capacity, int32_t* list, int32_t* count,
                            SelectRoom& s) {
    if (threadIdx.x == 0) *count = static_cast<int32_t>(capacity);
    const ScoredKeys scored{scores};
    if (n > kStaged) {
        write_best(scored, n, find_threshold(scored, n, capacity, s), list, s);
        return;
    }
    for_quads(scored, threadIdx.x, kSelectThreads, (n + 3) / 4,
              [&](uint32_t i, const uint4& quad) { reinterpret_cast<uint4*>(s.keys)[i] = quad; });
    __syncthreads();
    const StagedKeys staged{s.keys};
    write_best(staged, n, find_threshold(staged, n, capacity, s), list, s);
}

}  // namespace ds4::gpu::cuda
