#include <algorithm>

#include "backend/gpu/cuda/index_keys.h"
#include "backend/gpu/cuda/indexer.h"
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/select_best.h"

// The indexer of Flash, model.md 8. Queries of a block stand in shared memory as B of the products, 64 heads
// each; warps take tiles of keys as A, on their own, so that a lane sums over heads in its registers: tiles
// of eight heads in order, two heads of each, then the four lanes of a key. One order for every form, so a
// score has the same bits whatever stands beside its row.
namespace ds4::gpu::cuda {
namespace {

constexpr uint32_t kHeads = 64, kHeadTiles = kHeads / 8, kPairs = kIndexSteps / 2;

// As lanes read them: both operands of two steps.
struct Query {
    uint4 heads[kHeadTiles][kPairs][32];
    float weight[kHeads];
};

template <uint32_t n_threads>
DS4_DEVICE void stage_queries(const IndexScoresArgs& a, uint32_t row, uint32_t n, Query* s) {
    constexpr uint32_t kEights = kHeads * kIndexDims / 8;  // of a query
    const float4* q = reinterpret_cast<const float4*>(a.q) + static_cast<int64_t>(row) * (2 * kEights);
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < n * kEights; i += n_threads) {
        const float4 x = q[2 * i], y = q[2 * i + 1];
        const uint32_t head = i / 16 % kHeads, block = i / 4 % 4, pair = i % 4;
        s[i / kEights].heads[head / 8][pair][head % 8 * 4 + block] =
            make_uint4(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w), pack_bf16(y.x, y.y), pack_bf16(y.z, y.w));
    }
    for (uint32_t i = threadIdx.x; i < n * kHeads; i += n_threads)
        s[i / kHeads].weight[i % kHeads] = a.weight[static_cast<int64_t>(row) * kHeads + i];
}

// 16 m_tiles keys of a warp.
template <uint32_t m_tiles>
struct KeyBlocks {
    IndexBlock rows[m_tiles][2];
};
template <uint32_t m_tiles>
DS4_DEVICE KeyBlocks<m_tiles> load_key_blocks(const PagedRowsArgs& rows, uint32_t first, uint32_t n) {
    const uint32_t lane = threadIdx.x % 32;
    KeyBlocks<m_tiles> out;
#pragma unroll
    for (uint32_t i = 0; i < 2 * m_tiles; ++i) {
        const uint32_t key = smaller(first + 8 * i + lane / 4, n - 1);
        out.rows[i / 2][i % 2] = load_index_block(kv_row(rows, key), lane % 4);
    }
    return out;
}
template <uint32_t m_tiles>
using KeyFragments = uint32_t[m_tiles][kIndexSteps][4];

// Scores of the keys first .. first + 16 m_tiles - 1 below n.
template <uint32_t m_tiles>
DS4_DEVICE void score_keys(const KeyFragments<m_tiles>& keys, const Query& query, uint32_t first, uint32_t n,
                           float* scores) {
    constexpr uint32_t kAtOnce = 4 / m_tiles;  // tiles of heads: four sums under way
    const uint32_t lane = threadIdx.x % 32;
    float sum[2 * m_tiles] = {};
#pragma unroll 1
    for (uint32_t tile = 0; tile < kHeadTiles; tile += kAtOnce) {
        float c[kAtOnce][m_tiles][4] = {};
#pragma unroll
        for (uint32_t pair = 0; pair < kPairs; ++pair) {
#pragma unroll
            for (uint32_t t = 0; t < kAtOnce; ++t) {
                const uint4 heads = query.heads[tile + t][pair][lane];
#pragma unroll
                for (uint32_t m = 0; m < m_tiles; ++m) mma_bf16(c[t][m], keys[m][2 * pair], heads.x, heads.y);
#pragma unroll
                for (uint32_t m = 0; m < m_tiles; ++m)
                    mma_bf16(c[t][m], keys[m][2 * pair + 1], heads.z, heads.w);
            }
        }
#pragma unroll
        for (uint32_t t = 0; t < kAtOnce; ++t) {
            const float2 w = *reinterpret_cast<const float2*>(query.weight + 8 * (tile + t) + 2 * (lane % 4));
#pragma unroll
            for (uint32_t i = 0; i < 2 * m_tiles; ++i) {
                const float* dots = c[t][i / 2] + 2 * (i % 2);
                sum[i] += __fmaf_rn(w.y, relu(dots[1]), w.x * relu(dots[0]));
            }
        }
    }
    // Lane q of a key's four writes the q-th eight of keys.
    float mine = 0;
#pragma unroll
    for (uint32_t i = 0; i < 2 * m_tiles; ++i) {
        sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 1);
        sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 2);
        if (lane % 4 == i) mine = sum[i];
    }
    const uint32_t key = first + lane % 4 * 8 + lane / 4;
    if (lane % 4 < 2 * m_tiles && key < n) __stcg(scores + key, mine);
}

DS4_DEVICE const PagedRowsArgs& index_rows(const BatchArgs& b, uint32_t row) {
    return b.history[b.row_segment[row]].indexer;
}

// ---- prompts: a block has four queries in a row, its warps 32 keys at a time

constexpr uint32_t kPromptQueries = 4, kPromptThreads = 256, kPromptWarps = kPromptThreads / 32;
constexpr uint32_t kPromptTiles = 2, kPromptKeys = 16 * kPromptTiles;

struct PromptRoom {
    Query queries[kPromptQueries];
    uint32_t n[kPromptQueries];  // keys of which scores are wanted
};

// Queries [begin, end) of the block, all of one segment: the last one sees most.
DS4_DEVICE void score_run(const IndexScoresArgs& a, uint32_t first_query, uint32_t begin, uint32_t end,
                          const PromptRoom& s) {
    const PagedRowsArgs rows = index_rows(a.batch, a.first_row + first_query + begin);
    const uint32_t n = s.n[end - 1];
    const uint32_t step = gridDim.y * kPromptWarps * kPromptKeys;
#pragma unroll 1
    for (uint32_t first = (blockIdx.y * kPromptWarps + threadIdx.x / 32) * kPromptKeys; first < n;
         first += step) {
        const KeyBlocks<kPromptTiles> blocks = load_key_blocks<kPromptTiles>(rows, first, n);
        KeyFragments<kPromptTiles> keys;
#pragma unroll
        for (uint32_t m = 0; m < kPromptTiles; ++m)
            index_fragments(blocks.rows[m][0], blocks.rows[m][1], keys[m]);
#pragma unroll 1
        for (uint32_t query = begin; query < end; ++query) {
            if (first >= s.n[query]) continue;
            score_keys<kPromptTiles>(keys, s.queries[query], first, s.n[query],
                                     a.scores + static_cast<int64_t>(first_query + query) * a.stride);
        }
    }
}

// Grid: (fours of rows, parts of the keys)
__global__ void __launch_bounds__(kPromptThreads, 2)
    scores_kernel(const __grid_constant__ IndexScoresArgs a, uint32_t n_rows) {
    extern __shared__ __align__(16) uint8_t shared[];
    PromptRoom& s = *reinterpret_cast<PromptRoom*>(shared);
    wait_for_predecessor();
    release_dependents();
    const uint32_t first = blockIdx.x * kPromptQueries;
    const uint32_t n_queries = smaller(kPromptQueries, n_rows - first);
    uint32_t n = 0;
    if (threadIdx.x < n_queries) {
        n = n_index_rows(a.batch, a.first_row + first + threadIdx.x);
        if (n <= a.capacity) n = 0;
        s.n[threadIdx.x] = n;
    }
    if (__syncthreads_or(n > blockIdx.y * kPromptWarps * kPromptKeys) == 0) return;
    stage_queries<kPromptThreads>(a, a.first_row + first, n_queries, s.queries);
    __syncthreads();
    const auto segment = [&](uint32_t query) { return a.batch.row_segment[a.first_row + first + query]; };
    for (uint32_t begin = 0, end = 1; begin < n_queries; begin = end++) {
        while (end < n_queries && segment(end) == segment(begin)) ++end;
        score_run(a, first, begin, end, s);
    }
}

// ---- generated rows: a block has one query, its warps 16 keys at a time; the last block of a row selects

constexpr uint32_t kRowKeys = 16 * kSelectWarps;  // of a block at a time

union RowRoom {
    Query query;
    SelectRoom select;
};

// Whether all other blocks of this row have written their scores. Leaves the counter as it was at first.
DS4_DEVICE bool is_last(uint32_t* arrived, uint32_t n_blocks) {
    __syncthreads();
    bool last = false;
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(arrived, 1u) + 1 == n_blocks;
        if (last) *arrived = 0;
        __threadfence();
    }
    return __syncthreads_or(last ? 1 : 0) != 0;
}

// Grid: (rows, parts of the keys)
__global__ void __launch_bounds__(kSelectThreads, 1)
    index_select_kernel(const __grid_constant__ IndexSelectArgs a) {
    extern __shared__ __align__(16) uint8_t shared[];
    RowRoom& s = *reinterpret_cast<RowRoom*>(shared);
    const IndexScoresArgs& to_score = a.scores;
    const uint32_t row = to_score.first_row + blockIdx.x, capacity = to_score.capacity;
    // The step table and rows of earlier steps are there already.
    const SegmentArgs segment = to_score.batch.segments[to_score.batch.row_segment[row]];
    const PagedRowsArgs rows = index_rows(to_score.batch, row);
    const uint32_t n = n_index_rows(to_score.batch, row);
    uint32_t first = blockIdx.y * kRowKeys + threadIdx.x / 32 * 16;
    const bool are_old = first + 16 <= static_cast<uint32_t>(segment.start) / kIndexRatio;
    if (!are_old || n <= capacity) wait_for_predecessor();
    KeyBlocks<1> blocks{};
    if (n > capacity) blocks = load_key_blocks<1>(rows, first, n);
    wait_for_predecessor();
    release_dependents();
    int32_t* list = a.rows + static_cast<int64_t>(row) * capacity;
    if (n <= capacity) {
        if (blockIdx.y == 0) select_all(this_thread(), n, list, a.count + row);
        return;
    }
    if (blockIdx.y * kRowKeys >= n) return;
    float* scores = to_score.scores + static_cast<int64_t>(blockIdx.x) * to_score.stride;
    stage_queries<kSelectThreads>(to_score, row, 1, &s.query);
    __syncthreads();
#pragma unroll 1
    while (first < n) {
        KeyFragments<1> keys;
        index_fragments(blocks.rows[0][0], blocks.rows[0][1], keys[0]);
        const uint32_t next = first + gridDim.y * kRowKeys;
        if (next < n) blocks = load_key_blocks<1>(rows, next, n);
        score_keys<1>(keys, s.query, first, n, scores);
        first = next;
    }
    if (!is_last(a.arrived + blockIdx.x, smaller(gridDim.y, (n + kRowKeys - 1) / kRowKeys))) return;
    choose_best(scores, n, capacity, list, a.count + row, s.select);
}

// Grid: (rows)
__global__ void __launch_bounds__(kSelectThreads) select_kernel(const __grid_constant__ SelectArgs a) {
    extern __shared__ __align__(16) uint8_t shared[];
    wait_for_predecessor();
    release_dependents();
    const uint32_t row = a.first_row + blockIdx.x, n = n_index_rows(a.batch, row);
    int32_t* list = a.rows + static_cast<int64_t>(row) * a.capacity;
    if (n <= a.capacity) {
        select_all(this_thread(), n, list, a.count + row);
    } else {
        choose_best(a.scores + static_cast<int64_t>(blockIdx.x) * a.stride, n, a.capacity, list,
                    a.count + row, *reinterpret_cast<SelectRoom*>(shared));
    }
}

// ---- launches

uint32_t divide_up(uint32_t n, uint32_t by) {
    return (n + by - 1) / by;
}
bool fits(const IndexScoresArgs& a) {
    return a.packed != 0 && a.n_heads == kHeads && a.head_dim == kIndexDims;
}

// A few blocks for every place that a block finds on the GPU.
cudaError_t launch_scores(const IndexScoresArgs& a, uint32_t n_rows, cudaStream_t stream) {
    const uint32_t blocks = divide_up(n_rows, kPromptQueries);
    const uint32_t parts = std::clamp(divide_up(8 * device_shape().multiprocessors, blocks), 1u,
                                      divide_up(a.stride, kPromptWarps * kPromptKeys));
    return launch(scores_kernel, dim3(blocks, parts), kPromptThreads, sizeof(PromptRoom), stream, a, n_rows);
}

// One block for every multiprocessor.
cudaError_t launch_index_select(const IndexSelectArgs& a, uint32_t n_rows, cudaStream_t stream) {
    const uint32_t parts =
        std::clamp(device_shape().multiprocessors / n_rows, 1u, divide_up(a.scores.stride, kRowKeys));
    return launch(index_select_kernel, dim3(n_rows, parts), kSelectThreads, sizeof(RowRoom), stream, a);
}

}  // namespace

bool launch_indexer(const Launch& launched, cudaStream_t stream, cudaError_t& status) {
    const uint32_t n_rows = launched.grid.x;
    if (launched.kernel == Kernel::index_scores) {
        const auto a = args_of<IndexScoresArgs>(launched);
        if (!fits(a)) return false;
        status = launch_scores(a, n_rows, stream);
    } else if (launched.kernel == Kernel::index_select) {
        const auto a = args_of<IndexSelectArgs>(launched);
        if (!fits(a.scores)) return false;
        status = launch_index_select(a, n_rows, stream);
    } else if (launched.kernel == Kernel::select_rows) {
        status = launch(select_kernel, dim3(n_rows), kSelectThreads, sizeof(SelectRoom), stream,
                        args_of<SelectArgs>(launched));
    } else {
        return false;
    }
    return true;
}

}  // namespace ds4::gpu::cuda
