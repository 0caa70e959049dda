#pragma once

#include "backend/gpu/cuda/half_math.h"
#include "backend/gpu/kernels/select.h"

// The choice of the best rows of kernels/select.h by a block of kSelectThreads, with the same result: a radix
// select over digits of 11, 11 and 10 bits, then one pass that counts what each warp keeps and one that
// writes. Scores of up to kStaged rows are read once.
namespace ds4::gpu::cuda {

constexpr uint32_t kSelectThreads = 512, kSelectWarps = kSelectThreads / 32;
constexpr uint32_t kDigits = 2048, kDigitsOfThread = kDigits / kSelectThreads;
constexpr uint32_t kStaged = 10240;

struct SelectRoom {
    alignas(16) float scores[kStaged];
    alignas(16) uint32_t bins[kDigits];
    uint32_t sum[kSelectWarps], equal[kSelectWarps];
    uint32_t digit, above, inside;  // the digit that is searched for, keys of larger ones, of it
};

// Scores of some rows, in shared memory or in device memory, where another block may have written them a
// moment ago. One code for both: a token's kernels do not fit the instruction cache together.
struct Keys {
    const float* scores;
    uint32_t n;
};

// f(i, key i .. key i + 3) for quads first, first + step, ... below end, four of them in flight.
template <class F>
DS4_DEVICE void for_quads(const Keys& keys, uint32_t first, uint32_t step, uint32_t end, const F& f) {
    constexpr uint32_t kBatch = 4;
#pragma unroll 1
    for (uint32_t i = first; i < end; i += kBatch * step) {
        float4 quads[kBatch];
#pragma unroll
        for (uint32_t b = 0; b < kBatch; ++b) {
            if (i + b * step < end) quads[b] = load_anywhere(keys.scores + 4 * (i + b * step));
        }
#pragma unroll 1
        for (uint32_t at = i; at < i + kBatch * step && at < end; at += step) {
            const float score[4] = {quads[0].x, quads[0].y, quads[0].z, quads[0].w};
#pragma unroll
            for (uint32_t j = 0; j < 4; ++j) {
                if (4 * at + j < keys.n) f(4 * at + j, ordered(score[j]));
            }
#pragma unroll
            for (uint32_t b = 1; b < kBatch; ++b) quads[b - 1] = quads[b];
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
DS4_DEVICE uint32_t find_digit(const Keys& keys, uint32_t shift, uint32_t bits, Threshold& t, SelectRoom& s) {
    reinterpret_cast<uint4*>(s.bins)[threadIdx.x] = make_uint4(0, 0, 0, 0);
    __syncthreads();
    const uint32_t known = shift + bits == 32 ? 0 : ~0u << (shift + bits), digits = (1u << bits) - 1;
    for_quads(keys, threadIdx.x, kSelectThreads, (keys.n + 3) / 4, [&](uint32_t, uint32_t key) {
        if (((key ^ t.key) & known) == 0) atomicAdd(&s.bins[key >> shift & digits], 1u);
    });
    __syncthreads();
    static_assert(kDigitsOfThread == 4);
    const uint32_t first = kDigits - 4 * (threadIdx.x + 1);  // the first thread has the largest digits
    const uint4 four = *reinterpret_cast<const uint4*>(s.bins + first);
    const uint32_t bins[4] = {four.x, four.y, four.z, four.w};
    uint32_t above = sum_before(bins[0] + bins[1] + bins[2] + bins[3], s);
#pragma unroll
    for (uint32_t digit = 4; digit-- > 0;) {
        if (above < t.n_equal && above + bins[digit] >= t.n_equal) {
            s.digit = first + digit;
            s.above = above;
            s.inside = bins[digit];
        }
        above += bins[digit];
    }
    __syncthreads();
    t.key |= s.digit << shift;
    t.n_equal -= s.above;
    return s.inside;
}

DS4_DEVICE Threshold find_threshold(const Keys& keys, uint32_t capacity, SelectRoom& s) {
    Threshold t{0, capacity};
#pragma unroll 1
    for (uint32_t end = 32; end > 0;) {
        const uint32_t bits = end > 10 ? 11 : 10;
        end -= bits;
        const uint32_t n_inside = find_digit(keys, end, bits, t, s);
        // All that agree are wanted: they are the ones above the number before.
        if (n_inside == t.n_equal && t.key != 0) return {t.key - 1, 0};
    }
    return t;
}

// Every warp has a stretch of the rows, a lane four of 128 at a time.
DS4_DEVICE void write_best(const Keys& keys, const Threshold& t, int32_t* list, SelectRoom& s) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t stretch = (keys.n + 128 * kSelectWarps - 1) / (128 * kSelectWarps) * 32;  // quads
    const uint32_t first = warp * stretch, end = smaller(first + stretch, (keys.n + 3) / 4);
    uint32_t n_above = 0, n_equal = 0;  // of this lane
    for_quads(keys, first + lane, 32, end, [&](uint32_t, uint32_t key) {
        n_above += key > t.key ? 1 : 0;
        n_equal += key == t.key ? 1 : 0;
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
        const float4 four = i < end ? load_anywhere(keys.scores + 4 * i) : make_float4(0, 0, 0, 0);
        const float score[4] = {four.x, four.y, four.z, four.w};
        uint32_t above_here = above_at, equal_here = equal_at;
        bool above[4], equal[4];
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            const bool there = i < end && 4 * i + j < keys.n;
            above[j] = there && ordered(score[j]) > t.key;
            equal[j] = there && ordered(score[j]) == t.key;
            const uint32_t all_above = __ballot_sync(kAllLanes, above[j]);
            const uint32_t all_equal = __ballot_sync(kAllLanes, equal[j]);
            above_here += popcount(all_above & before);
            equal_here += popcount(all_equal & before);
            above_at += popcount(all_above);
            equal_at += popcount(all_equal);
        }
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            if (above[j] || (equal[j] && equal_here < t.n_equal))
                list[above_here + smaller(equal_here, t.n_equal)] = static_cast<int32_t>(4 * i + j);
            above_here += above[j] ? 1 : 0;
            equal_here += equal[j] ? 1 : 0;
        }
    }
}

// The best `capacity` of n > capacity rows. Scores from a multiple of 16 bytes, room for a multiple of four.
DS4_DEVICE void choose_best(const float* scores, uint32_t n, uint32_t capacity, int32_t* list, int32_t* count,
                            SelectRoom& s) {
    if (threadIdx.x == 0) *count = static_cast<int32_t>(capacity);
    Keys keys{scores, n};
    if (n <= kStaged) {
#pragma unroll 4
        for (uint32_t i = threadIdx.x; i < (n + 3) / 4; i += kSelectThreads)
            reinterpret_cast<float4*>(s.scores)[i] = load_anywhere(scores + 4 * i);
        keys.scores = s.scores;
        __syncthreads();
    }
    write_best(keys, find_threshold(keys, capacity, s), list, s);
}

}  // namespace ds4::gpu::cuda
