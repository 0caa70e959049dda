#include <algorithm>

#include "backend/gpu/cuda/act.h"
#include "backend/gpu/cuda/expert_tiles.h"
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/warp_ring.h"

// The experts' gate and up products with SwiGLU, route weight and quantisation behind them. A task is 32 rows
// of gate and of up of one entry of the expert list; eight warps share its inputs, and their sums are added
// in order. Three such groups make a block, a block fills a multiprocessor. (gpu.md 5, 6)
namespace ds4::gpu::cuda {
namespace {

using tiles::Layout;

constexpr uint32_t kGroups = 3, kGroupWarps = 8;
constexpr uint32_t kWarps = kGroups * kGroupWarps, kThreads = 32 * kWarps;
constexpr uint32_t kTaskRows = 32;
constexpr uint32_t kTaskTiles = 4;   // row tiles: gate, up, gate, up
constexpr uint32_t kWarpBlocks = 2;  // blocks of 256 inputs of a warp, at most

struct GateUpPlan {
    uint32_t slots, columns;
    uint32_t ring_offset, part_offset, barrier_offset;  // the look-up table lies at 0
    uint32_t bytes;
};

// Blocks of 256 inputs that belong to a warp of a group.
struct Slice {
    uint32_t first, n;
};
DS4_DEVICE Slice slice_of(uint32_t n_in, uint32_t warp_of_group) {
    const uint32_t n_blocks = n_in / kActInputs;
    const uint32_t first = warp_of_group * n_blocks / kGroupWarps;
    return {first, (warp_of_group + 1) * n_blocks / kGroupWarps - first};
}

// An entry of the expert list, a word a lane: all of it arrives at once.
class EntryWords {
  public:
    // index: below the number of pairs; past the end of the list it is garbage.
    DS4_DEVICE EntryWords(const ExpertList* list, uint32_t index, uint32_t lane)
        : word_(__ldcg(reinterpret_cast<const uint32_t*>(list->entry + index) +
                       min(lane, static_cast<uint32_t>(sizeof(ExpertEntry) / 4) - 1))) {}

    DS4_DEVICE uint32_t expert() const { return __shfl_sync(0xffffffffu, word_, 0); }
    DS4_DEVICE uint32_t n() const { return __shfl_sync(0xffffffffu, word_, 1); }
    DS4_DEVICE uint32_t pair(uint32_t column) const { return __shfl_sync(0xffffffffu, word_, 2 + column); }

  private:
    uint32_t word_;
};

// The tiles of a warp in the order of use, over all tasks of its group.
template <Layout layout>
class TaskStream {
  public:
    DS4_DEVICE TaskStream(const GateUpArgs& a, Slice slice, uint32_t task, uint32_t step, uint32_t lane)
        : a_(a), slice_(slice), task_(task), step_(step), lane_(lane) {}

    // first: the entry of the first task.
    DS4_DEVICE void begin(uint32_t n_tasks, const EntryWords& first) {
        n_tasks_ = slice_.n == 0 ? 0 : n_tasks;
        if (task_ < n_tasks_) start(first.expert());
    }
    DS4_DEVICE void request(WarpRing& ring) {
        constexpr uint32_t kBytes = tiles::shape(layout).bytes;
        if (task_ >= n_tasks_) {
            ring.request(nullptr, 0);
            return;
        }
        ring.request(from_, kBytes);
        from_ += kBytes;
        if (++block_ < slice_.n) return;
        block_ = 0;
        from_ += (a_.n_in / kActInputs - slice_.n) * kBytes;
        if (++row_tile_ < kTaskTiles) return;
        task_ += step_;
        if (task_ < n_tasks_) start(EntryWords(a_.list, task_ / (a_.n_ff / kTaskRows), lane_).expert());
    }

  private:
    DS4_DEVICE void start(uint32_t expert) {
        row_tile_ = 0;
        const uint32_t row_tile = task_ % (a_.n_ff / kTaskRows) * kTaskTiles;
        from_ = a_.tiles + expert * a_.expert_bytes +
                static_cast<uint64_t>(row_tile * (a_.n_in / kActInputs) + slice_.first) *
                    tiles::shape(layout).bytes;
    }

    const GateUpArgs& a_;
    Slice slice_;
    uint32_t task_, step_, lane_, n_tasks_ = 0;
    uint32_t block_ = 0, row_tile_ = 0;
    const uint8_t* from_ = nullptr;
};

// c += a b, as mma_s8.
DS4_DEVICE void add_mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], uint2 b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// A task of one column of IQ2_XXS: fragment j is multiplied in column j, with zeros in the others. So the
// products of all fragments of a block are one sum, whose column j is what scale j multiplies; lane q holds
// columns 2q and 2q + 1 and has their scales. The sums of integers are exact, so they are those of
// multiply_tile.
struct SingleInputs {
    uint2 code[kWarpBlocks];  // of fragment g
    float scale[kWarpBlocks];

    DS4_DEVICE void load_from(const GateUpArgs& a, uint32_t row, Slice slice, uint32_t lane) {
#pragma unroll
        for (uint32_t b = 0; b < kWarpBlocks; ++b) {
            if (b >= slice.n) break;
            const ActBlock& x = a.x[row * (a.n_in / kActInputs) + slice.first + b];
            code[b] = __ldcg(reinterpret_cast<const uint2*>(x.code + 32 * (lane / 4) + 8 * (lane % 4)));
            scale[b] = __ldcg(x.scale);
        }
    }
};

// acc += one tile times block b: row g + 8 * (q % 2), the same in lanes q and q + 2.
DS4_DEVICE void multiply_single(WarpRing& ring, TaskStream<Layout::iq2_xxs>& stream, uint32_t table,
                                const SingleInputs& x, uint32_t b, uint32_t lane, float& acc) {
    const uint8_t* memory = ring.wait();
    Iq2Codes codes;
    codes.load_from(memory, lane);
    const uint32_t d = load<uint16_t>(memory + tiles::kIq2D + lane / 4 * 4 + lane % 2 * 2);
    ring.release();
    stream.request(ring);
    int32_t sum[4] = {};
    unrolled<8>([&](auto j) {
        uint32_t a[4];
        codes.template fragment<decltype(j)::value>(table, a);
        const bool is_own = lane / 4 == decltype(j)::value;
        add_mma_s8(sum, a, is_own ? x.code[b] : make_uint2(0, 0));
    });
    const uint32_t scales = 2 * codes.own_nibbles() + 0x01010101u;
    const int32_t low = sum[0] * byte_of(scales, 0) + sum[1] * byte_of(scales, 2);
    const int32_t high = sum[2] * byte_of(scales, 1) + sum[3] * byte_of(scales, 3);
    // Lanes of even q add up row g, the others row g + 8.
    int32_t own = lane % 2 == 0 ? low : high;
    own += __shfl_xor_sync(0xffffffffu, lane % 2 == 0 ? high : low, 1);
    own += __shfl_xor_sync(0xffffffffu, own, 2);
    acc = fmaf(static_cast<float>(own), 0.125f * low_half(d) * x.scale[b], acc);
}

// A warp's activations of a task: fragments of its blocks for column g, scales of columns 2q and 2q + 1.
// Lanes past the last column repeat it.
template <Layout layout>
struct TaskInputs {
    uint2 code[kWarpBlocks][8];
    float scale[kWarpBlocks][2];
    SplitPair sums[layout == Layout::q4_k ? kWarpBlocks : 1][2];

    DS4_DEVICE void load_from(const GateUpArgs& a, const EntryWords& entry, Slice slice, uint32_t lane) {
        const uint32_t last = entry.n() - 1;
        const uint32_t n_blocks = a.n_in / kActInputs, q = lane % 4;
        const auto row = [&](uint32_t column) { return entry.pair(min(column, last)) / a.n_used; };
        const uint32_t own = row(lane / 4), left = row(2 * q), right = row(2 * q + 1);
#pragma unroll
        for (uint32_t b = 0; b < kWarpBlocks; ++b) {
            if (b >= slice.n) break;
            const uint32_t block = slice.first + b;
            const ActBlock& x = a.x[own * n_blocks + block];
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                code[b][j] = __ldcg(reinterpret_cast<const uint2*>(x.code + 32 * j + 8 * q));
            }
            scale[b][0] = __ldcg(a.x[left * n_blocks + block].scale);
            scale[b][1] = __ldcg(a.x[right * n_blocks + block].scale);
            if constexpr (layout == Layout::q4_k) {
                const float4 s = __ldcg(reinterpret_cast<const float4*>(
                    a.x_sums + (own * n_blocks + block) * (kActInputs / kSumInputs) + 4 * q));
                sums[b][0] = split_pair(s.x, s.y);
                sums[b][1] = split_pair(s.z, s.w);
            }
        }
    }
};

// acc += one tile (16 rows x 256 inputs) times the columns of block b. The integer sums over 256 inputs are
// exact.
template <Layout layout>
DS4_DEVICE void multiply_tile(WarpRing& ring, TaskStream<layout>& stream, const uint8_t* table,
                              const TaskInputs<layout>& x, uint32_t b, uint32_t lane, float (&acc)[4]) {
    const uint8_t* memory = ring.wait();
    int32_t sum[4] = {};
    const auto add = [&](const uint32_t(&a)[4], const int32_t(&scale)[2], uint2 code) {
        int32_t dot[4];
        mma_s8(dot, a, code.x, code.y);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] += dot[i] * scale[i / 2];
    };
    if constexpr (layout == Layout::iq2_xxs) {
        const uint32_t address = Iq2Table::lane_address(table, lane);
        Iq2Codes codes;
        codes.load_from(memory, lane);
        const uint32_t d = load<uint32_t>(memory + tiles::kIq2D + lane / 4 * 4);
        ring.release();
        stream.request(ring);
        const Iq2Scales scales(codes.own_nibbles(), lane);
        unrolled<8>([&](auto j) {
            uint32_t a[4];
            constexpr uint32_t kFragment = decltype(j)::value;
            codes.template fragment<kFragment>(address, a);
            add(a, {scales.template of<kFragment>(0), scales.template of<kFragment>(1)},
                x.code[b][kFragment]);
        });
        const float row_scale[2] = {0.125f * low_half(d), 0.125f * high_half(d)};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            acc[i] = fmaf(static_cast<float>(sum[i]), row_scale[i / 2] * x.scale[b][i % 2], acc[i]);
        }
    } else {
        Q4kTile tile;
        tile.load_from(memory, lane);
        const TileScales s = tile_scales(memory + tiles::kQ4kD, lane);
        ring.release();
        stream.request(ring);
        unrolled<8>([&](auto j) {
            uint32_t a[4];
            int32_t scale[2];
            tile.template fragment<decltype(j)::value>(a, scale);
            add(a, scale, x.code[b][decltype(j)::value]);
        });
        float high[4] = {}, low[4] = {};
        uint32_t a[4];
        tile.minima(lane, a);
        mma_f16(high, a, x.sums[b][0].high, x.sums[b][1].high);
        mma_f16(low, a, x.sums[b][0].low, x.sums[b][1].low);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float minimum = s.dmin[i / 2] * fmaf(low[i], kLowHalf, high[i]);
            acc[i] += fmaf(static_cast<float>(sum[i]), s.d[i / 2] * x.scale[b][i % 2], -minimum);
        }
    }
}

// Partial sums of a group's task: (row tile, warp, row, column).
DS4_DEVICE uint32_t part_index(uint32_t row_tile, uint32_t warp, uint32_t row, uint32_t column,
                               uint32_t columns) {
    return ((row_tile * kGroupWarps + warp) * tiles::kRows + row) * columns + column;
}

// A warp's part of a task; part: its sums of row tile 0.
template <Layout layout>
DS4_DEVICE void multiply_task(const GateUpArgs& a, const EntryWords& entry, WarpRing& ring,
                              TaskStream<layout>& stream, const uint8_t* table, Slice slice, uint32_t lane,
                              float* part, uint32_t columns) {
    const uint32_t n = entry.n();
    TaskInputs<layout> x;
    x.load_from(a, entry, slice, lane);
    for (uint32_t t = 0; t < kTaskTiles; ++t) {
        float acc[4] = {};
#pragma unroll
        for (uint32_t b = 0; b < kWarpBlocks; ++b) {
            if (b < slice.n) multiply_tile(ring, stream, table, x, b, lane, acc);
        }
        const uint32_t column = lane % 4 * 2;
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            if (column + i % 2 < n) {
                part[part_index(t, 0, lane / 4 + i / 2 * 8, column + i % 2, columns)] = acc[i];
            }
        }
    }
}
DS4_DEVICE void multiply_single_task(const GateUpArgs& a, uint32_t row, WarpRing& ring,
                                     TaskStream<Layout::iq2_xxs>& stream, const uint8_t* table, Slice slice,
                                     uint32_t lane, float* part, uint32_t columns) {
    SingleInputs x;
    x.load_from(a, row, slice, lane);
    const uint32_t address = Iq2Table::lane_address(table, lane);
    for (uint32_t t = 0; t < kTaskTiles; ++t) {
        float acc = 0;
#pragma unroll
        for (uint32_t b = 0; b < kWarpBlocks; ++b) {
            if (b < slice.n) multiply_single(ring, stream, address, x, b, lane, acc);
        }
        if (lane % 4 < 2) part[part_index(t, 0, lane / 4 + lane % 4 * 8, 0, columns)] = acc;
    }
}

// One warp: 32 activations of one column, from the sums of gate and up to codes.
DS4_DEVICE void finish_column(const GateUpArgs& a, const float* part, uint32_t columns, uint32_t column,
                              uint32_t pair, float weight, uint32_t first_row, uint32_t lane) {
    float product[2] = {};
#pragma unroll
    for (uint32_t side = 0; side < 2; ++side) {
        for (uint32_t w = 0; w < kGroupWarps; ++w) {
            product[side] += part[part_index(lane / 16 * 2 + side, w, lane % 16, column, columns)];
        }
    }
    const float v = swiglu(product[0], product[1], a.clamp) * weight;
    const ActScale s = act_scale(largest<32>(magnitude(v)));
    const auto code = static_cast<int8_t>(act_code(v, s.inverse));
    const uint32_t row = first_row + lane;
    ActBlock& block = a.act[pair * (a.n_ff / kActInputs) + row / kActInputs];
    block.code[row % kActInputs] = code;
    if (lane == 0) block.scale[row % kActInputs / 32] = s.scale;
    int32_t sum = code;
#pragma unroll
    for (int mask = 1; mask < 16; mask *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (lane % 16 == 0) a.act_sums[(pair * a.n_ff + row) / kSumInputs] = s.scale * static_cast<float>(sum);
}

// The shared expert's activations, left in f32 by their product, as codes: for the product after this one.
DS4_DEVICE void quantise_shared(const GateUpArgs& a, uint32_t warp, uint32_t lane) {
    for (uint32_t i = warp * gridDim.x + blockIdx.x; i < a.n * a.n_ff / 32; i += kWarps * gridDim.x) {
        const float v = __ldcg(a.shared_f32 + 32 * i + lane);
        const ActScale s = act_scale(largest<32>(magnitude(v)));
        ActBlock& block = a.shared_act[i / 8];
        block.code[i % 8 * 32 + lane] = static_cast<int8_t>(act_code(v, s.inverse));
        if (lane == 0) block.scale[i % 8] = s.scale;
    }
}

template <Layout layout>
__global__ void __launch_bounds__(kThreads, 1)
    gate_up_kernel(const __grid_constant__ GateUpArgs a, const __grid_constant__ GateUpPlan plan) {
    extern __shared__ __align__(256) uint8_t shared[];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t group = warp / kGroupWarps, warp_of_group = warp % kGroupWarps;
    const Slice slice = slice_of(a.n_in, warp_of_group);
    WarpRing ring(shared + plan.ring_offset + warp * plan.slots * tiles::shape(layout).bytes,
                  reinterpret_cast<uint64_t*>(shared + plan.barrier_offset) + warp * WarpRing::kMaxSlots,
                  static_cast<int>(plan.slots), tiles::shape(layout).bytes);
    if constexpr (layout == Layout::iq2_xxs) Iq2Table::build(shared, a.grid, warp, kWarps, lane);
    __syncthreads();
    wait_for_predecessor();
    release_dependents();

    const uint32_t tasks = a.n_ff / kTaskRows, first_task = group * gridDim.x + blockIdx.x,
                   step = kGroups * gridDim.x;
    // Before it is known how long the list is.
    EntryWords entry(a.list, min(first_task / tasks, a.n * a.n_used - 1), lane);
    const uint32_t n_tasks = static_cast<uint32_t>(__ldcg(&a.list->n_entries)) * tasks;
    TaskStream<layout> stream(a, slice, first_task, step, lane);
    stream.begin(n_tasks, entry);
    for (uint32_t i = 0; i < plan.slots; ++i) stream.request(ring);
    if (a.shared_f32 != nullptr) quantise_shared(a, warp, lane);

    float* const part = reinterpret_cast<float*>(shared + plan.part_offset) +
                        group * kTaskTiles * kGroupWarps * tiles::kRows * plan.columns;
    for (uint32_t task = first_task; task < n_tasks; task += step) {
        if (task != first_task) entry = EntryWords(a.list, task / tasks, lane);
        const uint32_t n = entry.n();
        const uint32_t own_pair = entry.pair(min(warp_of_group, n - 1));
        const float own_weight = __ldcg(a.weight + own_pair);
        float* const own_part = part + part_index(0, warp_of_group, 0, 0, plan.columns);
        if (layout == Layout::iq2_xxs && n == 1) {
            if constexpr (layout == Layout::iq2_xxs) {
                multiply_single_task(a, own_pair / a.n_used, ring, stream, shared, slice, lane, own_part,
                                     plan.columns);
            }
        } else {
            multiply_task<layout>(a, entry, ring, stream, shared, slice, lane, own_part, plan.columns);
        }
        named_barrier(1 + group, 32 * kGroupWarps);
        if (warp_of_group < n) {
            finish_column(a, part, plan.columns, warp_of_group, own_pair, own_weight,
                          task % tasks * kTaskRows, lane);
        }
        named_barrier(1 + group, 32 * kGroupWarps);
    }
}

template <Layout layout>
cudaError_t launch_layout(const GateUpArgs& a, cudaStream_t stream) {
    const DeviceShape& device = device_shape();
    GateUpPlan p;
    p.columns = std::min(a.n, 8u);
    p.ring_offset = layout == Layout::iq2_xxs ? Iq2Table::kBytes : 0;
    for (p.slots = WarpRing::kMaxSlots; p.slots >= 2; --p.slots) {
        p.part_offset = p.ring_offset + kWarps * p.slots * tiles::shape(layout).bytes;
        p.barrier_offset = p.part_offset + kGroups * kTaskTiles * kGroupWarps * tiles::kRows * p.columns * 4;
        p.bytes = p.barrier_offset + kWarps * WarpRing::kMaxSlots * 8;
        if (p.bytes <= device.shared_per_block) break;
    }
    const uint32_t most_tasks = a.n * a.n_used * (a.n_ff / kTaskRows);
    return launch(gate_up_kernel<layout>, std::min(device.multiprocessors, most_tasks), kThreads, p.bytes,
                  stream, a, p);
}

}  // namespace

cudaError_t launch_gate_up(const GateUpArgs& a, cudaStream_t stream) {
    return a.layout == static_cast<uint32_t>(Layout::iq2_xxs) ? launch_layout<Layout::iq2_xxs>(a, stream)
                                                              : launch_layout<Layout::q4_k>(a, stream);
}

}  // namespace ds4::gpu::cuda
