#include <algorithm>

#include "backend/gpu/cuda/act.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/tile_product.h"

// The experts' products of prefill. The pairs (row, slot) are sorted by expert on the device; an expert's
// pairs are cut into even column tiles, and blocks take (expert, column tile, row block) tasks by number.
namespace ds4::gpu::cuda {
namespace {

using tiles::Layout;
using Block = TallBlock;

// Which task is whose: column tiles of all experts before, and the pairs' places, in shared memory.
class TaskList {
  public:
    struct Tile {
        uint32_t expert, first, n;  // of the sorted pairs
    };

    static constexpr DS4_TILES_FN uint32_t bytes(uint32_t n_experts) { return 8 * (n_experts + 1); }

    // first: as in SortArgs. Contains barriers.
    DS4_DEVICE TaskList(uint8_t* memory, const int32_t* first, uint32_t n_experts, uint32_t most)
        : tiles_(reinterpret_cast<uint32_t*>(memory)),
          first_(tiles_ + n_experts + 1),
          n_experts_(n_experts),
          most_(most) {
        for (uint32_t e = threadIdx.x; e <= n_experts; e += blockDim.x) {
            first_[e] = static_cast<uint32_t>(__ldcg(first + e));
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            uint32_t before = 0;
            for (uint32_t chunk = 0; chunk < n_experts; chunk += 32) {
                const uint32_t e = chunk + threadIdx.x;
                uint32_t sum = e < n_experts ? tiles_of(e) : 0;
                const uint32_t own = sum;
#pragma unroll
                for (uint32_t step = 1; step < 32; step *= 2) {
                    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
                    if (threadIdx.x >= step) sum += other;
                }
                if (e < n_experts) tiles_[e] = before + sum - own;
                before += __shfl_sync(0xffffffffu, sum, 31);
            }
            if (threadIdx.x == 0) tiles_[n_experts] = before;
        }
        __syncthreads();
    }

    DS4_DEVICE uint32_t n_tiles() const {
        return tiles_[n_experts_];
    }
    DS4_DEVICE Tile operator[](uint32_t tile) const {
        uint32_t low = 0, high = n_experts_;  // the last expert whose first tile is not past `tile`
        while (high - low > 1) {
            const uint32_t middle = (low + high) / 2;
            (tiles_[middle] <= tile ? low : high) = middle;
        }
        const uint32_t n = first_[low + 1] - first_[low], each = columns_of(low);
        const uint32_t done = (tile - tiles_[low]) * each;
        return {low, first_[low] + done, min(each, n - done)};
    }

  private:
    DS4_DEVICE uint32_t columns_of(uint32_t e) const {
        const uint32_t n = first_[e + 1] - first_[e];
        return n == 0 ? 8 : tiles::divide_up(tiles::divide_up(n, tiles::divide_up(n, most_)), 8) * 8;
    }
    DS4_DEVICE uint32_t tiles_of(uint32_t e) const {
        return tiles::divide_up(first_[e + 1] - first_[e], columns_of(e));
    }

    uint32_t *tiles_, *first_;
    uint32_t n_experts_, most_;
};

// What the two kernels share of a task: x without its rows.
template <class Rows>
DS4_DEVICE ProductTask<Rows> expert_task(const TaskList::Tile& t, const uint8_t* tiles, uint64_t expert_bytes,
                                         uint32_t row_tile, uint32_t n_row_tiles, uint32_t n_in,
                                         Layout layout) {
    const tiles::Shape shape = tiles::shape(layout);
    ProductTask<Rows> task;
    task.n_columns = t.n;
    task.n_stages = n_in / kStageInputs;
    task.input_tiles = n_in / shape.inputs;
    task.n_row_tiles = min(n_row_tiles - row_tile, Block::kTiles);
    task.weights =
        tiles + t.expert * expert_bytes + static_cast<uint64_t>(row_tile) * task.input_tiles * shape.bytes;
    return task;
}

template <Layout layout>
__global__ void __launch_bounds__(Block::kThreads, 1)
    grouped_gate_up_kernel(const __grid_constant__ GroupedGateUpArgs a,
                           const __grid_constant__ ProductPlan plan) {
    extern __shared__ __align__(1024) uint8_t shared[];
    uint8_t* const table = shared + plan.table_offset;
    if constexpr (layout == Layout::iq2_xxs) {
        Iq2Table::build(table, a.grid, threadIdx.x / 32, Block::kWarps, threadIdx.x % 32);
    }
    wait_for_predecessor();
    release_dependents();
    const TaskList list(shared + plan.list_offset, a.first, a.n_experts, plan.columns);
    const uint32_t row_tiles = 2 * (a.n_ff / tiles::kRows),
                   blocks = tiles::divide_up(row_tiles, Block::kTiles);
    const uint32_t n_tasks = list.n_tiles() * blocks;
    ProductLoader<Block, GatheredRows<Block>> loader(shared, plan);
    const auto begin = [&](uint32_t number) {
        if (number >= n_tasks) return;
        const TaskList::Tile t = list[number / blocks];
        auto task = expert_task<GatheredRows<Block>>(
            t, a.tiles, a.expert_bytes, number % blocks * Block::kTiles, row_tiles, a.n_in, layout);
        task.x = reinterpret_cast<const uint8_t*>(a.x);
#pragma unroll
        for (uint32_t i = 0; i < Block::kCopies; ++i) {
            const uint32_t column = min(threadIdx.x / 8 + Block::kCopyColumns * i, t.n - 1);
            task.rows.offset[i] =
                static_cast<uint32_t>(__ldcg(a.pair + t.first + column)) / a.n_used * a.n_in * 2;
        }
        loader.begin<layout>(task);
    };
    begin(blockIdx.x);
    auto* const weights = reinterpret_cast<float*>(shared + plan.weights_offset);
    auto* const out = reinterpret_cast<uint16_t*>(shared + plan.out_offset);
    for (uint32_t number = blockIdx.x; number < n_tasks; number += gridDim.x) {
        const TaskList::Tile t = list[number / blocks];
        if (threadIdx.x < t.n)
            weights[threadIdx.x] = __ldcg(a.weight + __ldcg(a.pair + t.first + threadIdx.x));
        with_columns<Block::kColumns>(t.n, [&](auto columns) {
            constexpr uint32_t kColumns = decltype(columns)::value;
            ProductSums<kColumns> sums = {};
            multiply_task<layout>(loader, table, sums);
            begin(number + gridDim.x);
            put_swiglu<Block>(sums, HalfStage<layout>::kScale, a.clamp, out,
                              [&](uint32_t column) { return weights[column]; });
        });
        __syncthreads();
        const uint32_t first_row = number % blocks * Block::kOutRows;
        write_halves<Block>(out, t.n, a.n_ff - first_row, [&](uint32_t column) {
            return a.act + static_cast<uint64_t>(t.first + column) * a.n_ff + first_row;
        });
        __syncthreads();
    }
    async_wait<0>();
}

template <Layout layout>
__global__ void __launch_bounds__(Block::kThreads, 1)
    grouped_down_kernel(const __grid_constant__ GroupedDownArgs a, const __grid_constant__ ProductPlan plan) {
    extern __shared__ __align__(1024) uint8_t shared[];
    wait_for_predecessor();
    release_dependents();
    const TaskList list(shared + plan.list_offset, a.first, a.n_experts, plan.columns);
    const uint32_t row_tiles = tiles::divide_up(a.n_out, tiles::kRows),
                   blocks = tiles::divide_up(row_tiles, Block::kTiles);
    const uint32_t n_tasks = list.n_tiles() * blocks;
    ProductLoader<Block, StridedRows<Block>> loader(shared, plan);
    const auto begin = [&](uint32_t number) {
        if (number >= n_tasks) return;
        const TaskList::Tile t = list[number / blocks];
        auto task = expert_task<StridedRows<Block>>(
            t, a.tiles, a.expert_bytes, number % blocks * Block::kTiles, row_tiles, a.n_ff, layout);
        task.x = reinterpret_cast<const uint8_t*>(a.act) + static_cast<uint64_t>(t.first) * a.n_ff * 2;
        task.rows = StridedRows<Block>::of(a.n_ff * 2);
        loader.begin<layout>(task);
    };
    begin(blockIdx.x);
    for (uint32_t number = blockIdx.x; number < n_tasks; number += gridDim.x) {
        with_columns<Block::kColumns>(list[number / blocks].n, [&](auto columns) {
            constexpr uint32_t kColumns = decltype(columns)::value;
            ProductSums<kColumns> sums = {};
            multiply_task<layout>(loader, nullptr, sums);
            begin(number + gridDim.x);
            const TaskList::Tile t = list[number / blocks];
            const uint32_t first_row = number % blocks * Block::kTiles * tiles::kRows;
            write_f32(sums, HalfStage<layout>::kScale, t.n, a.n_out - first_row, [&](uint32_t column) {
                return a.y + static_cast<uint64_t>(__ldg(a.pair + t.first + column)) * a.n_out + first_row;
            });
        });
    }
    async_wait<0>();
}

template <Layout layout>
ProductPlan plan_grouped(uint32_t n_experts, bool has_out) {
    const DeviceShape& device = device_shape();
    const Depth depth = product_depth(device.has_wgmma);
    ProductPlan p{};
    for (p.columns = Block::kColumns; p.columns >= 32; p.columns /= 2) {
        p.weight_offset = depth.slots * p.columns * kStageRowBytes;
        p.table_offset =
            tiles::divide_up(p.weight_offset + weight_bytes(layout, depth, Block::kTiles), 256) * 256;
        p.out_offset = p.table_offset + (layout == Layout::iq2_xxs ? Iq2Table::kBytes : 0);
        p.weights_offset = p.out_offset + (has_out ? p.columns * Block::kOutWidth * 2 : 0);
        p.list_offset = p.weights_offset + p.columns * 4;
        p.bytes = p.list_offset + TaskList::bytes(n_experts);
        if (p.bytes <= device.shared_per_block) break;
    }
    return p;
}

template <Layout layout>
cudaError_t launch_gate_up_of(const GroupedGateUpArgs& a, cudaStream_t stream) {
    const ProductPlan plan = plan_grouped<layout>(a.n_experts, true);
    return launch(grouped_gate_up_kernel<layout>, device_shape().multiprocessors, Block::kThreads, plan.bytes,
                  stream, a, plan);
}
template <Layout layout>
cudaError_t launch_down_of(const GroupedDownArgs& a, cudaStream_t stream) {
    const ProductPlan plan = plan_grouped<layout>(a.n_experts, false);
    return launch(grouped_down_kernel<layout>, device_shape().multiprocessors, Block::kThreads, plan.bytes,
                  stream, a, plan);
}

}  // namespace

cudaError_t launch_grouped_gate_up(const GroupedGateUpArgs& a, cudaStream_t stream) {
    switch (static_cast<Layout>(a.layout)) {
        case Layout::iq2_xxs:
            return launch_gate_up_of<Layout::iq2_xxs>(a, stream);
        case Layout::q2_k:
            return launch_gate_up_of<Layout::q2_k>(a, stream);
        default:
            return launch_gate_up_of<Layout::q4_k>(a, stream);
    }
}

cudaError_t launch_grouped_down(const GroupedDownArgs& a, cudaStream_t stream) {
    return a.layout == static_cast<uint32_t>(Layout::q2_k) ? launch_down_of<Layout::q2_k>(a, stream)
                                                           : launch_down_of<Layout::q4_k>(a, stream);
}

}  // namespace ds4::gpu::cuda
