#include <algorithm>

#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/rows_stage.h"
#include "backend/gpu/cuda/warp_ring.h"

// y = w x for 1 .. 16 rows of x. A warp multiplies one row tile by a slice of the inputs for up to 8 (or 16)
// columns at once; the slices of a row tile are summed in order. Both depend on the matrix alone, and a
// column's products on that column alone: a row of x gives the same bits in any company. (gpu.md 5)
namespace ds4::gpu::cuda {
namespace {

using tiles::Layout;

constexpr uint32_t kMaxRows = 16;
constexpr uint32_t kStaticBytes = 128;  // of shared memory, kMaxRows norms
constexpr uint32_t kSlotBytes = tiles::shape(Layout::q8_0).bytes;

// Shared memory of a block: ring, barriers, activations, partial sums.
struct RowsPlan {
    uint32_t slots;
    uint32_t act_offset, halves_offset;  // equal: one of the two at a time
    uint32_t part_offset;
    uint32_t barrier_offset;
    uint32_t bytes;
};

// What a warp does in a pass.
struct Work {
    uint32_t matrix;
    uint32_t row_tile;
    uint32_t first_tile, n_tiles;  // of inputs
    uint32_t first_column;
    const uint8_t* from;
    uint32_t tile_bytes;
};

DS4_DEVICE Layout layout_of(const RowsMatrix& m) {
    return static_cast<Layout>(m.layout);
}

DS4_DEVICE Work work_of(const RowsArgs& a, uint32_t pass, uint32_t warp) {
    uint32_t i = 0;
    while (i + 1 < a.n_matrices && pass >= a.matrix[i + 1].first_pass) ++i;
    const RowsMatrix& m = a.matrix[i];
    const bool is_f16 = layout_of(m) == Layout::f16;
    const uint32_t k_split = m.k_split, at_once = kRowsWarps / k_split;
    const uint32_t row_tiles = tiles::divide_up(m.n_out, tiles::kRows) *
                               (m.output == static_cast<uint8_t>(RowsOutput::swiglu) ? 2 : 1);
    const uint32_t row_passes = tiles::divide_up(row_tiles, at_once);
    uint32_t local = pass - m.first_pass;
    Work w;
    w.matrix = i;
    w.first_column = is_f16 ? local / row_passes * 8 : 0;
    local = is_f16 ? local % row_passes : local;
    w.row_tile = local * at_once + warp / k_split;
    const uint32_t n_tiles = tiles::divide_up(a.n_in, is_f16 ? 64 : 128), slice = warp % k_split;
    w.first_tile = slice * n_tiles / k_split;
    w.n_tiles = w.row_tile < row_tiles ? (slice + 1) * n_tiles / k_split - w.first_tile : 0;
    w.tile_bytes = is_f16 ? tiles::shape(Layout::f16).bytes : tiles::shape(Layout::q8_0).bytes;
    w.from = m.tiles + (static_cast<uint64_t>(w.row_tile) * n_tiles + w.first_tile) * w.tile_bytes;
    return w;
}

// The tiles of a warp in the order of use, over all passes of its block.
class TileStream {
  public:
    DS4_DEVICE TileStream(const RowsArgs& a, uint32_t warp) : a_(a), warp_(warp), pass_(blockIdx.x) {
        start();
    }

    // Puts the next tile on order.
    DS4_DEVICE void request(WarpRing& ring) {
        while (left_ == 0 && pass_ < a_.n_passes) {
            pass_ += gridDim.x;
            start();
        }
        ring.request(left_ == 0 ? nullptr : from_, bytes_);
        if (left_ > 0) {
            --left_;
            from_ += bytes_;
        }
    }

  private:
    DS4_DEVICE void start() {
        left_ = 0;
        if (pass_ >= a_.n_passes) return;
        const Work w = work_of(a_, pass_, warp_);
        from_ = w.from;
        left_ = w.n_tiles;
        bytes_ = w.tile_bytes;
    }

    const RowsArgs& a_;
    uint32_t warp_, pass_;
    uint32_t left_ = 0, bytes_ = 0;
    const uint8_t* from_ = nullptr;
};

// Where a lane finds its columns in the staged activations; lanes past the last column repeat it, and their
// results are not written.
struct Columns {
    uint32_t codes;      // of column g
    uint32_t scales[2];  // of columns 2q and 2q + 1
};

// acc += one Q8_0 tile (16 rows x 128 inputs) times the columns. x: the block of the tile's inputs in column
// 0, at its half.
template <int kColumnTiles>
DS4_DEVICE void q8_tile(const uint8_t* tile, const uint8_t* codes, const uint8_t* scales,
                        const Columns (&columns)[kColumnTiles], uint32_t lane,
                        float (&acc)[kColumnTiles][4]) {
    const uint4 packed = load<uint4>(tile + tiles::kQ8Scales + 16 * (lane / 4));
    const uint32_t weight_scales[4] = {packed.x, packed.y, packed.z, packed.w};
    float act_scales[kColumnTiles][2][4];
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const float4 s = load<float4>(scales + columns[c].scales[side]);
            act_scales[c][side][0] = s.x, act_scales[c][side][1] = s.y;
            act_scales[c][side][2] = s.z, act_scales[c][side][3] = s.w;
        }
    }
#pragma unroll
    for (int t = 0; t < 4; ++t) {
        const uint4 v = load<uint4>(tile + 512 * t + 16 * lane);
        const uint32_t fragment[4] = {v.x, v.y, v.z, v.w};
        const float scale[2] = {low_half(weight_scales[t]), high_half(weight_scales[t])};
#pragma unroll
        for (int c = 0; c < kColumnTiles; ++c) {
            const uint2 b = load<uint2>(codes + columns[c].codes + 32 * t);
            int32_t dot[4];
            mma_s8(dot, fragment, b.x, b.y);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                acc[c][i] =
                    fmaf(static_cast<float>(dot[i]), scale[i / 2] * act_scales[c][i % 2][t], acc[c][i]);
            }
        }
    }
}

// acc += one F16 tile (16 rows x 64 inputs) times 8 columns. x: the tile's inputs as staged by stage_halves,
// at the lane's column; 16 inputs are step bytes.
DS4_DEVICE void f16_tile(const uint8_t* tile, const uint8_t* x, uint32_t step, uint32_t lane,
                         float (&acc)[4]) {
    float high[4] = {}, low[4] = {};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
        const uint4 v = load<uint4>(tile + 512 * t + 16 * lane);
        const uint32_t fragment[4] = {v.x, v.y, v.z, v.w};
        const uint4 b = load<uint4>(x + t * step);
        mma_f16(high, fragment, b.x, b.y);
        mma_f16(low, fragment, b.z, b.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) acc[i] += fmaf(low[i], kLowHalf, high[i]);
}

// The partial sums of a pass: (warp, row, column).
struct Partials {
    float* data;
    uint32_t n_columns;

    DS4_DEVICE void store(uint32_t warp, uint32_t lane, const float (&acc)[4]) const {
        const uint32_t row = lane / 4, column = lane % 4 * 2;
        float* to = data + (warp * tiles::kRows + row) * n_columns + column;
        if (column < n_columns) to[0] = acc[0], to[8 * n_columns] = acc[2];
        if (column + 1 < n_columns) to[1] = acc[1], to[8 * n_columns + 1] = acc[3];
    }
    // Of row tile `t` of the pass, over its slices in order.
    DS4_DEVICE float sum(uint32_t t, uint32_t k_split, uint32_t row, uint32_t column) const {
        const float* from = data + (t * k_split * tiles::kRows + row) * n_columns + column;
        float total = from[0];
        for (uint32_t s = 1; s < k_split; ++s) total += from[s * tiles::kRows * n_columns];
        return total;
    }
};

// Writes the results of a pass; first_tile: its first row tile, first_column: of the partials in x.
DS4_DEVICE void finish_pass(const RowsArgs& a, const RowsMatrix& m, Partials p, uint32_t first_tile,
                            uint32_t first_column) {
    const uint32_t k_split = m.k_split, at_once = kRowsWarps / k_split;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (m.output == static_cast<uint8_t>(RowsOutput::act)) {
        for (uint32_t item = warp; item < at_once / 2 * p.n_columns; item += kRowsWarps) {
            const uint32_t pair = item / p.n_columns, column = item % p.n_columns;
            const uint32_t row = (first_tile + 2 * pair) * tiles::kRows + lane;
            if (row - lane >= m.n_out) continue;
            const float v = p.sum(2 * pair + lane / 16, k_split, lane % 16, column);
            const ActScale s = act_scale(largest<32>(magnitude(v)));
            ActBlock& block = m.y_act[(first_column + column) * (m.y_width / kActInputs) + row / kActInputs];
            block.code[row % kActInputs] = static_cast<int8_t>(act_code(v, s.inverse));
            if (lane == 0) block.scale[row % kActInputs / 32] = s.scale;
        }
        return;
    }
    const bool is_swiglu = m.output == static_cast<uint8_t>(RowsOutput::swiglu);
    const uint32_t results = (is_swiglu ? at_once / 2 : at_once) * tiles::kRows * p.n_columns;
    for (uint32_t i = threadIdx.x; i < results; i += kRowsThreads) {
        const uint32_t r = i % tiles::kRows, column = i / tiles::kRows % p.n_columns;
        const uint32_t t = i / tiles::kRows / p.n_columns;
        const uint32_t row = ((is_swiglu ? first_tile / 2 : first_tile) + t) * tiles::kRows + r;
        if (row >= m.n_out) continue;
        const float v = is_swiglu ? swiglu(p.sum(2 * t, k_split, r, column),
                                           p.sum(2 * t + 1, k_split, r, column), a.clamp)
                                  : p.sum(t, k_split, r, column);
        m.y[(first_column + column) * m.y_width + row] = v;
    }
}

template <int kColumnTiles>
__global__ void __launch_bounds__(kRowsThreads, kColumnTiles == 1 ? 2 : 1)
    rows_kernel(const __grid_constant__ RowsArgs a, const __grid_constant__ RowsPlan plan) {
    extern __shared__ __align__(128) uint8_t shared[];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    WarpRing ring(shared + warp * plan.slots * kSlotBytes,
                  reinterpret_cast<uint64_t*>(shared + plan.barrier_offset) + warp * WarpRing::kMaxSlots,
                  static_cast<int>(plan.slots), kSlotBytes);
    TileStream stream(a, warp);
    for (uint32_t i = 0; i < plan.slots; ++i) stream.request(ring);
    release_dependents();
    wait_for_predecessor();

    uint8_t* const act = shared + plan.act_offset;
    uint8_t* const halves = shared + plan.halves_offset;
    float* const part = reinterpret_cast<float*>(shared + plan.part_offset);
    const uint32_t column_bytes = act_column_bytes(a.n_in), n_blocks = tiles::divide_up(a.n_in, kActInputs);
    Columns columns[kColumnTiles];
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
        columns[c].codes = min(8 * c + lane / 4, a.n - 1) * column_bytes + lane % 4 * 8;
#pragma unroll
        for (uint32_t side = 0; side < 2; ++side) {
            columns[c].scales[side] = min(8 * c + lane % 4 * 2 + side, a.n - 1) * column_bytes + kActInputs;
        }
    }
    __shared__ float norm_scale[kMaxRows];
    const Norm norm{a.input == static_cast<uint32_t>(RowsInput::norm) ? a.norm : nullptr, norm_scale};
    if (norm.w != nullptr) norm_scales(a.x_f32, a.n, a.n_in, a.eps, part, norm_scale);
    // What is staged: a group of inputs as blocks, 8 columns as halves; -1: nothing.
    int32_t staged_group = -1, staged_halves = -1;

    for (uint32_t pass = blockIdx.x; pass < a.n_passes; pass += gridDim.x) {
        const Work w = work_of(a, pass, warp);
        const RowsMatrix& m = a.matrix[w.matrix];
        const uint32_t first_tile = w.row_tile - warp / m.k_split;
        if (layout_of(m) == Layout::f16) {
            const uint32_t n_columns = min(a.n - w.first_column, 8u);
            if (staged_halves != static_cast<int32_t>(w.first_column)) {
                __syncthreads();
                stage_halves(a.x_f32, w.first_column, n_columns, a.n_in, norm, halves);
                staged_halves = static_cast<int32_t>(w.first_column);
                if (plan.act_offset == plan.halves_offset) staged_group = -1;
                __syncthreads();
            }
            const uint32_t step = n_columns * 64;
            const uint8_t* x = halves + min(lane / 4, n_columns - 1) * 64 + lane % 4 * 16;
            float acc[4] = {};
            for (uint32_t t = w.first_tile; t < w.first_tile + w.n_tiles; ++t) {
                f16_tile(ring.wait(), x + 4 * t * step, step, lane, acc);
                ring.release();
                stream.request(ring);
            }
            const Partials p{part, n_columns};
            p.store(warp, lane, acc);
            __syncthreads();
            finish_pass(a, m, p, first_tile, w.first_column);
            __syncthreads();
            continue;
        }
        const uint32_t group = m.tiles_a_group == 0 ? 0 : first_tile / m.tiles_a_group;
        if (staged_group != static_cast<int32_t>(group)) {
            __syncthreads();
            if (a.input == static_cast<uint32_t>(RowsInput::act)) {
                stage_act(a.x_act, a.n, a.n_groups * n_blocks, group * n_blocks, n_blocks, column_bytes, act);
            } else {
                stage_f32(a.x_f32, a.n, a.n_groups * a.n_in, group * a.n_in, a.n_in, norm, column_bytes, act);
            }
            staged_group = static_cast<int32_t>(group);
            if (plan.act_offset == plan.halves_offset) staged_halves = -1;
            __syncthreads();
        }
        float acc[kColumnTiles][4] = {};
        for (uint32_t t = w.first_tile; t < w.first_tile + w.n_tiles; ++t) {
            const uint8_t* x = act + t / 2 * sizeof(ActBlock);
            q8_tile(ring.wait(), x + t % 2 * 128, x + t % 2 * 16, columns, lane, acc);
            ring.release();
            stream.request(ring);
        }
#pragma unroll
        for (int c = 0; c < kColumnTiles; ++c) {
            const Partials p{part, min(a.n - 8 * c, 8u)};
            p.store(warp, lane, acc[c]);
            __syncthreads();
            finish_pass(a, m, p, first_tile, 8 * c);
            __syncthreads();
        }
    }
}

RowsPlan plan_rows(const RowsArgs& a, const DeviceShape& device) {
    bool has_q8 = false, has_f16 = false;
    for (uint32_t i = 0; i < a.n_matrices; ++i) {
        (a.matrix[i].layout == static_cast<uint8_t>(Layout::f16) ? has_f16 : has_q8) = true;
    }
    const uint32_t act_bytes = has_q8 ? a.n * act_column_bytes(a.n_in) : 0;
    const uint32_t halves_bytes = has_f16 ? std::min(a.n, 8u) * tiles::divide_up(a.n_in, 64) * 256 : 0;
    const uint32_t fixed_bytes = std::min(a.n, 8u) * kRowsWarps * tiles::kRows * 4 +
                                 kRowsWarps * WarpRing::kMaxSlots * static_cast<uint32_t>(sizeof(uint64_t));
    const uint32_t ring_bytes = kRowsWarps * kSlotBytes;
    const auto plan_with = [&](uint32_t slots, bool apart) {
        RowsPlan p;
        p.slots = slots;
        p.act_offset = slots * ring_bytes;
        p.halves_offset = apart ? p.act_offset + act_bytes : p.act_offset;
        p.part_offset =
            apart ? p.halves_offset + halves_bytes : p.act_offset + std::max(act_bytes, halves_bytes);
        p.barrier_offset = p.part_offset + fixed_bytes - kRowsWarps * WarpRing::kMaxSlots * 8;
        p.bytes = p.part_offset + fixed_bytes;
        return p;
    };
    // Half a multiprocessor leaves the next kernel room to start in; then all of it.
    const uint32_t half = device.shared_per_multiprocessor / 2 - device.shared_reserved;
    for (const uint32_t limit : {half, device.shared_per_block}) {
        for (uint32_t slots = 3; slots >= 2; --slots) {
            if (plan_with(slots, true).bytes + kStaticBytes <= limit) return plan_with(slots, true);
        }
    }
    return plan_with(2, false);
}

}  // namespace

cudaError_t launch_rows(const RowsArgs& a, cudaStream_t stream) {
    const DeviceShape& device = device_shape();
    const RowsPlan plan = plan_rows(a, device);
    const uint32_t blocks = std::min(a.n_passes, device.multiprocessors);
    return a.n <= 8 ? launch(rows_kernel<1>, blocks, kRowsThreads, plan.bytes, stream, a, plan)
                    : launch(rows_kernel<2>, blocks, kRowsThreads, plan.bytes, stream, a, plan);
}

}  // namespace ds4::gpu::cuda
