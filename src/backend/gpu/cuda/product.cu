#include <algorithm>

#include "backend/gpu/cuda/act.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/tile_product.h"

// Dense products of prefill: y = w x for any number of rows of x, several matrices side by side in one grid.
namespace ds4::gpu::cuda {
namespace {

using tiles::Layout;
using Block = WideBlock;
using Rows = StridedRows<Block>;
using Loader = ProductLoader<Block, Rows>;

constexpr uint32_t kOutBytes = Block::kColumns * Block::kOutWidth * 2;

struct DensePlan {
    ProductPlan product;
    uint32_t n_column_tiles, columns;  // of a task
};

uint32_t row_tiles_of(const ProductMatrix& m) {
    return tiles::divide_up(m.n_out, tiles::kRows) *
           (m.output == static_cast<uint8_t>(ProductOutput::swiglu_halves) ? 2 : 1);
}
// Row blocks of a group.
uint32_t group_blocks(uint32_t tiles_a_group, uint32_t row_tiles) {
    return tiles::divide_up(tiles_a_group == 0 ? row_tiles : tiles_a_group, Block::kTiles);
}

// Where a task lies in its matrix.
struct Place {
    uint32_t matrix, row_tile, n_row_tiles, group;
    uint32_t first_column, n_columns;
};

DS4_DEVICE Place place_of(const ProductArgs& a, const DensePlan& plan, uint32_t task) {
    Place p;
    const uint32_t block = task / plan.n_column_tiles;
    p.first_column = task % plan.n_column_tiles * plan.columns;
    p.n_columns = min(a.n - p.first_column, plan.columns);
    p.matrix = 0;
    while (p.matrix + 1 < a.n_matrices && block >= a.matrix[p.matrix + 1].first_block) ++p.matrix;
    const ProductMatrix& m = a.matrix[p.matrix];
    const uint32_t local = block - m.first_block;
    const uint32_t row_tiles = tiles::divide_up(m.n_out, tiles::kRows) *
                               (m.output == static_cast<uint8_t>(ProductOutput::swiglu_halves) ? 2 : 1);
    const uint32_t of_group = m.tiles_a_group == 0 ? row_tiles : m.tiles_a_group;
    const uint32_t blocks = tiles::divide_up(of_group, Block::kTiles);
    p.group = local / blocks;
    const uint32_t first = local % blocks * Block::kTiles;
    p.row_tile = p.group * of_group + first;
    p.n_row_tiles = min(of_group - first, Block::kTiles);
    return p;
}

DS4_DEVICE ProductTask<Rows> task_of(const ProductArgs& a, const Place& p, const uint16_t* x) {
    const ProductMatrix& m = a.matrix[p.matrix];
    const uint32_t row_bytes = a.n_groups * a.n_in * 2;
    ProductTask<Rows> t;
    t.x = reinterpret_cast<const uint8_t*>(x) + static_cast<uint64_t>(p.first_column) * row_bytes +
          p.group * a.n_in * 2;
    t.rows = Rows::of(row_bytes);
    t.n_columns = p.n_columns;
    t.n_stages = a.n_in / kStageInputs;
    const tiles::Shape shape = tiles::shape(static_cast<Layout>(m.layout));
    t.input_tiles = tiles::divide_up(a.n_in, shape.inputs);
    t.n_row_tiles = p.n_row_tiles;
    t.weights = m.tiles + static_cast<uint64_t>(p.row_tile) * t.input_tiles * shape.bytes;
    return t;
}

template <uint32_t kColumns>
DS4_DEVICE void multiply(Loader& loader, Layout layout, ProductSums<kColumns>& sums) {
    if (layout == Layout::f16) {
        multiply_task<Layout::f16>(loader, nullptr, sums);
    } else {
        multiply_task<Layout::q8_0>(loader, nullptr, sums);
    }
}
DS4_DEVICE void begin(Loader& loader, Layout layout, const ProductTask<Rows>& task) {
    if (layout == Layout::f16) {
        loader.begin<Layout::f16>(task);
    } else {
        loader.begin<Layout::q8_0>(task);
    }
}

template <uint32_t kColumns>
DS4_DEVICE void finish(const ProductArgs& a, const Place& p, const ProductSums<kColumns>& sums,
                       uint16_t* out) {
    const ProductMatrix& m = a.matrix[p.matrix];
    const auto output = static_cast<ProductOutput>(m.output);
    if (output == ProductOutput::f32) {
        const uint32_t first_row = p.row_tile * tiles::kRows;
        write_f32(sums, 1, p.n_columns, min(p.n_row_tiles * tiles::kRows, m.n_out - first_row),
                  [&](uint32_t column) {
                      return m.y + static_cast<uint64_t>(p.first_column + column) * m.y_width + first_row;
                  });
        return;
    }
    const auto write = [&](uint32_t first_row, uint32_t n_rows) {
        __syncthreads();
        write_halves<Block>(out, p.n_columns, n_rows, [&](uint32_t column) {
            return m.y_halves + static_cast<uint64_t>(p.first_column + column) * m.y_width + first_row;
        });
        __syncthreads();
    };
    if (output == ProductOutput::swiglu_halves) {
        put_swiglu<Block>(sums, 1, a.clamp, out, [](uint32_t) { return 1.0f; });
        const uint32_t first_row = p.row_tile / 2 * tiles::kRows;
        write(first_row, m.n_out - first_row);
        return;
    }
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (uint32_t part = 0; part < 2; ++part) {
        if (warp / 4 == part) {
#pragma unroll
            for (uint32_t r = 0; r < kWarpTiles; ++r) {
#pragma unroll
                for (uint32_t i = 0; i < kColumns / 8; ++i) {
#pragma unroll
                    for (uint32_t j = 0; j < 4; ++j) {
                        const uint32_t column = 8 * i + lane % 4 * 2 + j % 2;
                        if (column >= p.n_columns) continue;
                        put_half<Block>(out, column, (warp % 4 * kWarpTiles + r) * 16 + lane / 4 + j / 2 * 8,
                                        sums.tile[r][i][j]);
                    }
                }
            }
        }
        const uint32_t done = part * Block::kOutRows, there = p.n_row_tiles * tiles::kRows;
        write(p.row_tile * tiles::kRows + done, there > done ? there - done : 0);
    }
}

template <uint32_t kColumns>
__global__ void __launch_bounds__(Block::kThreads, 1)
    product_kernel(const __grid_constant__ ProductArgs a, const __grid_constant__ DensePlan plan) {
    extern __shared__ __align__(1024) uint8_t shared[];
    Loader loader(shared, plan.product);
    wait_for_predecessor();
    release_dependents();
    const uint32_t n_tasks = a.n_blocks * plan.n_column_tiles;
    const auto begin_task = [&](uint32_t task) {
        if (task >= n_tasks) return;
        const Place p = place_of(a, plan, task);
        const ProductMatrix& m = a.matrix[p.matrix];
        begin(loader, static_cast<Layout>(m.layout), task_of(a, p, m.whole_x != 0 ? a.x_low : a.x));
    };
    begin_task(blockIdx.x);
    for (uint32_t task = blockIdx.x; task < n_tasks; task += gridDim.x) {
        const Place p = place_of(a, plan, task);
        const ProductMatrix& m = a.matrix[p.matrix];
        const auto layout = static_cast<Layout>(m.layout);
        ProductSums<kColumns> sums = {};
        multiply(loader, layout, sums);
        if (m.whole_x != 0) {
            scale_sums(sums, kLowHalf);
            begin(loader, layout, task_of(a, p, a.x));
            multiply(loader, layout, sums);
        }
        begin_task(task + gridDim.x);
        finish(a, p, sums, reinterpret_cast<uint16_t*>(shared + plan.product.out_offset));
    }
    async_wait<0>();
}

// Sets first_block of every matrix and n_blocks.
void set_blocks(ProductArgs& a) {
    a.n_blocks = 0;
    for (uint32_t i = 0; i < a.n_matrices; ++i) {
        ProductMatrix& m = a.matrix[i];
        m.first_block = a.n_blocks;
        const uint32_t row_tiles = row_tiles_of(m);
        const uint32_t groups = m.tiles_a_group == 0 ? 1 : row_tiles / m.tiles_a_group;
        a.n_blocks += groups * group_blocks(m.tiles_a_group, row_tiles);
    }
}

}  // namespace

cudaError_t launch_product(const ProductArgs& args, cudaStream_t stream) {
    ProductArgs a = args;
    set_blocks(a);
    const DeviceShape& device = device_shape();
    const Depth depth = product_depth(device.has_wgmma);
    uint32_t weights = 0;
    bool has_halves = false;
    for (uint32_t i = 0; i < a.n_matrices; ++i) {
        weights =
            std::max(weights, weight_bytes(static_cast<Layout>(a.matrix[i].layout), depth, Block::kTiles));
        has_halves |= a.matrix[i].output != static_cast<uint8_t>(ProductOutput::f32);
    }
    DensePlan plan{};
    for (plan.product.columns = Block::kColumns; plan.product.columns >= 64; plan.product.columns /= 2) {
        plan.product.weight_offset = depth.slots * plan.product.columns * kStageRowBytes;
        plan.product.out_offset = plan.product.weight_offset + weights;
        plan.product.bytes =
            plan.product.out_offset + (has_halves ? kOutBytes * plan.product.columns / Block::kColumns : 0);
        if (plan.product.bytes <= device.shared_per_block) break;
    }
    plan.n_column_tiles = tiles::divide_up(a.n, plan.product.columns);
    plan.columns = tiles::divide_up(tiles::divide_up(a.n, plan.n_column_tiles), 8) * 8;
    plan.n_column_tiles = tiles::divide_up(a.n, plan.columns);
    const auto kernel = plan.columns <= 32   ? product_kernel<32>
                        : plan.columns <= 64 ? product_kernel<64>
                                             : product_kernel<128>;
    return launch(kernel, std::min(device.multiprocessors, a.n_blocks * plan.n_column_tiles), Block::kThreads,
                  plan.product.bytes, stream, a, plan);
}

}  // namespace ds4::gpu::cuda
