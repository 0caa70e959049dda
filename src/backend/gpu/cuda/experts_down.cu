#include <algorithm>
#include <type_traits>

#include "backend/gpu/cuda/down_streams.h"
#include "backend/gpu/cuda/expert_tiles.h"
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/matrix.h"

// The experts' down products and the shared expert's, summed. A block owns one or two row tiles of the
// result: eight warps share the inputs of an entry, two such groups take turns at the entries, and when all
// (row, slot) pairs are in shared memory each result is the sum over its slots in slot order, then the shared
// expert. No atomics, no second launch, and a row's bits do not depend on its company. (gpu.md 5, 6)
namespace ds4::gpu::cuda {
namespace {

using tiles::Layout;

constexpr uint32_t kWarps = 2 * kSlices, kThreads = 32 * kWarps;
constexpr uint32_t kActSlots = 2;

// A lane's view of an item's activations in shared memory: column g, scales of columns 2q and 2q + 1. Lanes
// past the last column repeat it.
struct Columns {
    const uint8_t* own;
    const uint8_t* side[2];

    DS4_DEVICE Columns(const uint8_t* slot, uint32_t n, uint32_t lane) {
        own = slot + min(lane / 4, n - 1) * kColumnBytes;
        side[0] = slot + min(lane % 4 * 2, n - 1) * kColumnBytes;
        side[1] = slot + min(lane % 4 * 2 + 1, n - 1) * kColumnBytes;
    }
    DS4_DEVICE uint2 codes(uint32_t fragment, uint32_t lane) const {
        return load<uint2>(own + 32 * fragment + lane % 4 * 8);
    }
    // Of four fragments from 4 * quarter on.
    DS4_DEVICE float4 scales(uint32_t quarter, uint32_t i) const {
        return load<float4>(side[i] + kActInputs + 16 * quarter);
    }
};

DS4_DEVICE float component(float4 v, uint32_t i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// acc = one tile of an expert (16 rows x 256 inputs) times the columns.
template <Layout layout>
DS4_DEVICE void multiply_expert(const uint8_t* memory, const Columns& x, uint32_t lane, float (&acc)[4]) {
    using Tile = std::conditional_t<layout == Layout::q2_k, Q2kTile, Q4kTile>;
    Tile tile;
    tile.load_from(memory, lane);
    float sum[4] = {};
    unrolled<2>([&](auto quarter) {
        constexpr uint32_t kFirst = decltype(quarter)::value * 4;
        const float4 scales[2] = {x.scales(kFirst / 4, 0), x.scales(kFirst / 4, 1)};
        unrolled<4>([&](auto t) {
            constexpr uint32_t j = kFirst + decltype(t)::value;
            const uint2 code = x.codes(j, lane);
            uint32_t a[4];
            int32_t dot[4], row_scale[2] = {1, 1};
            if constexpr (layout == Layout::q2_k) {
                tile.template fragment<j>(a);
            } else {
                tile.template fragment<j>(a, row_scale);
            }
            mma_s8(dot, a, code.x, code.y);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                sum[i] = fmaf(static_cast<float>(dot[i] * row_scale[i / 2]),
                              component(scales[i % 2], decltype(t)::value), sum[i]);
            }
        });
    });
    const float4 s = load<float4>(x.own + sizeof(ActBlock) + lane % 4 * 16);
    const SplitPair first = split_pair(s.x, s.y), second = split_pair(s.z, s.w);
    uint32_t minima[4];
    if constexpr (layout == Layout::q2_k) {
        Q2kTile::minima(memory, lane, minima);
    } else {
        tile.minima(lane, minima);
    }
    float high[4] = {}, low[4] = {};
    mma_f16(high, minima, first.high, second.high);
    mma_f16(low, minima, first.low, second.low);
    const TileScales d = tile_scales(memory + (layout == Layout::q2_k ? tiles::kQ2kD : tiles::kQ4kD), lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float minimum = d.dmin[i / 2] * fmaf(low[i], kLowHalf, high[i]);
        acc[i] = fmaf(d.d[i / 2], sum[i], -minimum);
    }
}

// acc += one Q8_0 tile (16 rows x 128 inputs, half `half` of the slice) times the columns.
DS4_DEVICE void multiply_shared(const uint8_t* memory, const Columns& x, uint32_t half, uint32_t lane,
                                float (&acc)[4]) {
    const uint4 packed = load<uint4>(memory + tiles::kQ8Scales + 16 * (lane / 4));
    const uint32_t weight_scales[4] = {packed.x, packed.y, packed.z, packed.w};
    const float4 scales[2] = {x.scales(half, 0), x.scales(half, 1)};
#pragma unroll
    for (uint32_t t = 0; t < 4; ++t) {
        const uint4 v = load<uint4>(memory + 512 * t + 16 * lane);
        const uint32_t fragment[4] = {v.x, v.y, v.z, v.w};
        const uint2 code = x.codes(4 * half + t, lane);
        int32_t dot[4];
        mma_s8(dot, fragment, code.x, code.y);
        const float scale[2] = {low_half(weight_scales[t]), high_half(weight_scales[t])};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            acc[i] = fmaf(static_cast<float>(dot[i]), scale[i / 2] * component(scales[i % 2], t), acc[i]);
        }
    }
}

// Partial sums of a pass: (row tile, product, slice, row); products are the pairs, then the shared expert of
// each row.
struct Partials {
    float* data;
    uint32_t n_products;

    DS4_DEVICE float* at(uint32_t row_tile, uint32_t product, uint32_t slice) const {
        return data + ((row_tile * n_products + product) * kSlices + slice) * tiles::kRows;
    }
    DS4_DEVICE float sum(uint32_t row_tile, uint32_t product, uint32_t row) const {
        const float* from = at(row_tile, product, 0) + row;
        float total = from[0];
#pragma unroll
        for (uint32_t s = 1; s < kSlices; ++s) total += from[s * tiles::kRows];
        return total;
    }
};

DS4_DEVICE void finish_pass(const DownArgs& a, const DownPlan& plan, Partials p, uint32_t pass) {
    for (uint32_t i = threadIdx.x; i < plan.row_tiles * tiles::kRows * a.n; i += kThreads) {
        const uint32_t r = i % tiles::kRows, t = i / tiles::kRows % plan.row_tiles;
        const uint32_t token = i / tiles::kRows / plan.row_tiles;
        const uint32_t row = (pass * plan.row_tiles + t) * tiles::kRows + r;
        if (row >= a.n_out) continue;
        float y = p.sum(t, token * a.n_used, r);
        for (uint32_t k = 1; k < a.n_used; ++k) y += p.sum(t, token * a.n_used + k, r);
        if (a.shared_tiles != nullptr) y += p.sum(t, a.n * a.n_used + token, r);
        a.y[static_cast<uint64_t>(token) * a.n_out + row] = y;
    }
}

template <Layout layout>
__global__ void __launch_bounds__(kThreads, 1)
    down_kernel(const __grid_constant__ DownArgs a, const __grid_constant__ DownPlan plan) {
    extern __shared__ __align__(128) uint8_t shared[];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t group = warp / kSlices, slice = warp % kSlices;
    auto* barriers =
        reinterpret_cast<uint64_t*>(shared + plan.barrier_offset) + warp * (WarpRing::kMaxSlots + kActSlots);
    WarpRing weights(shared + warp * plan.slots * plan.slot_bytes, barriers, static_cast<int>(plan.slots),
                     plan.slot_bytes);
    WarpRing acts(shared + plan.act_offset + warp * kActSlots * plan.columns * kColumnBytes,
                  barriers + WarpRing::kMaxSlots, kActSlots, plan.columns * kColumnBytes);

    // The list is two kernels old: it may be read before the wait.
    const auto n_entries = static_cast<uint32_t>(__ldcg(&a.list->n_entries));
    auto* const entries = reinterpret_cast<ExpertEntry*>(shared + plan.list_offset);
    for (uint32_t i = threadIdx.x; i < n_entries * (sizeof(ExpertEntry) / 16); i += kThreads) {
        reinterpret_cast<uint4*>(entries)[i] = __ldcg(reinterpret_cast<const uint4*>(a.list->entry) + i);
    }
    const Partials part{reinterpret_cast<float*>(shared + plan.part_offset), a.n * (a.n_used + 1)};
    for (uint32_t i = threadIdx.x; i < plan.row_tiles * part.n_products * kSlices * tiles::kRows;
         i += kThreads) {
        part.data[i] = 0;  // pairs without an expert, slices without inputs
    }
    __syncthreads();

    const Items items(a, plan, n_entries, group, slice);
    WeightStream weight_stream(a, plan, items, entries, tiles::shape(layout).bytes, group, slice);
    ActStream act_stream(a, plan, items, entries, slice);
    for (uint32_t i = 0; i < plan.slots; ++i) weight_stream.request(weights);
    wait_for_predecessor();
    release_dependents();
    for (uint32_t i = 0; i < kActSlots; ++i) act_stream.request(acts);

    for (uint32_t pass = blockIdx.x; pass < plan.n_passes; pass += gridDim.x) {
        for (uint32_t i = 0; i < items.n(); ++i) {
            const Item item = items[i];
            const uint32_t n =
                item.is_shared ? min(a.n - 8 * item.index, 8u) : static_cast<uint32_t>(entries[item.index].n);
            const Columns x(acts.wait(), n, lane);
            for (uint32_t t = 0; t < item.row_tiles; ++t) {
                float acc[4] = {};
                if (item.is_shared) {
                    for (uint32_t half = 0; half < kSharedTiles; ++half) {
                        multiply_shared(weights.wait(), x, half, lane, acc);
                        weights.release();
                        weight_stream.request(weights);
                    }
                } else {
                    multiply_expert<layout>(weights.wait(), x, lane, acc);
                    weights.release();
                    weight_stream.request(weights);
                }
#pragma unroll
                for (uint32_t j = 0; j < 2; ++j) {
                    const uint32_t column = lane % 4 * 2 + j;
                    if (column >= n) continue;
                    const uint32_t product = item.is_shared
                                                 ? a.n * a.n_used + 8 * item.index + column
                                                 : static_cast<uint32_t>(entries[item.index].pair[column]);
                    float* to = part.at(item.is_shared ? group : t, product, slice) + lane / 4;
                    to[0] = acc[j];
                    to[8] = acc[2 + j];
                }
            }
            acts.release();
            act_stream.request(acts);
        }
        __syncthreads();
        finish_pass(a, plan, part, pass);
        __syncthreads();
    }
}

DownPlan plan_down(const DownArgs& a, uint32_t tile_bytes) {
    const DeviceShape& device = device_shape();
    DownPlan p;
    p.columns = std::min(a.n, 8u);
    p.slot_bytes = std::max(tile_bytes, kSharedBytes);
    p.row_tiles = a.n <= 8 ? 2 : 1;
    p.n_passes = tiles::divide_up(a.n_out, p.row_tiles * tiles::kRows);
    for (p.slots = WarpRing::kMaxSlots; p.slots >= 2; --p.slots) {
        p.act_offset = kWarps * p.slots * p.slot_bytes;
        p.list_offset = p.act_offset + kWarps * kActSlots * p.columns * kColumnBytes;
        p.part_offset = p.list_offset + a.n * a.n_used * static_cast<uint32_t>(sizeof(ExpertEntry));
        p.barrier_offset = p.part_offset + p.row_tiles * a.n * (a.n_used + 1) * kSlices * tiles::kRows * 4;
        p.bytes = p.barrier_offset + kWarps * (WarpRing::kMaxSlots + kActSlots) * 8;
        if (p.bytes <= device.shared_per_block) break;
    }
    return p;
}

}  // namespace

cudaError_t launch_down(const DownArgs& a, cudaStream_t stream) {
    const bool is_q2 = a.layout == static_cast<uint32_t>(Layout::q2_k);
    const DownPlan plan = plan_down(a, tiles::shape(is_q2 ? Layout::q2_k : Layout::q4_k).bytes);
    const uint32_t blocks = std::min(plan.n_passes, device_shape().multiprocessors);
    return is_q2 ? launch(down_kernel<Layout::q2_k>, blocks, kThreads, plan.bytes, stream, a, plan)
                 : launch(down_kernel<Layout::q4_k>, blocks, kThreads, plan.bytes, stream, a, plan);
}

}  // namespace ds4::gpu::cuda
