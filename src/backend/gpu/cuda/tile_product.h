#pragma once

#include "backend/gpu/cuda/half_tiles.h"
#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/wgmma.h"

// The product of prefill: a block multiplies row tiles of weights, two a warp, by some rows of x, "columns"
// here. A warp owns two row tiles; it turns them into fragments in its registers, so that only x,
// shared by all warps, has to lie in shared memory as halves. Everything arrives through asynchronous copies
// some stages of 64 inputs ahead. The sums of a column run over the inputs in order, 16 at a time, and do not
// depend on how many columns there are. (gpu.md 8)
namespace ds4::gpu::cuda {

constexpr uint32_t kWarpTiles = 2;
// What the warps of a block share. Results in halves leave through shared memory, kOutRows at a time.
// most_pending: steps that the asynchronous matrix unit has not done when the next one is started.
template <uint32_t n_warps, uint32_t most_columns, int most_pending>
struct ProductBlock {
    static constexpr uint32_t kWarps = n_warps, kThreads = 32 * kWarps, kTiles = kWarps * kWarpTiles;
    static constexpr uint32_t kColumns = most_columns;  // a task has no more
    static constexpr int kPending = most_pending;
    static constexpr uint32_t kOutRows = kTiles * tiles::kRows / 2, kOutWidth = kOutRows + 8;
    // Columns whose 128 bytes of a stage the threads copy at once, and how often.
    static constexpr uint32_t kCopyColumns = kThreads / 8, kCopies = kColumns / kCopyColumns;
};
// Wide: the weights are turned into halves for as many columns as the registers hold. Tall: twice the warps
// hide the latency of that, for no more columns than an expert mostly has; half the registers are too few
// for two steps on their way.
using WideBlock = ProductBlock<8, 128, 1>;
using TallBlock = ProductBlock<16, 64, 0>;

constexpr uint32_t kStageInputs = 64, kStageRowBytes = 2 * kStageInputs;

// Stages on their way, and slots for them. The asynchronous matrix unit still reads the stage before the
// current one when a slot is filled.
struct Depth {
    uint32_t ahead, slots;
};
constexpr DS4_TILES_FN Depth product_depth(bool has_wgmma) {
    return has_wgmma ? Depth{3, 5} : Depth{1, 2};
}
#if defined(DS4_WGMMA)
#define DS4_PRODUCT_DEPTH product_depth(true)
#else
#define DS4_PRODUCT_DEPTH product_depth(false)
#endif

constexpr DS4_TILES_FN uint32_t tile_stages(tiles::Layout layout) {
    return tiles::shape(layout).inputs / kStageInputs;
}
// Tiles of a row tile in shared memory: the current one and those on their way.
constexpr DS4_TILES_FN uint32_t weight_slots(tiles::Layout layout, Depth depth) {
    return tiles::divide_up(depth.ahead, tile_stages(layout)) + 1;
}
constexpr DS4_TILES_FN uint32_t weight_bytes(tiles::Layout layout, Depth depth, uint32_t block_tiles) {
    return block_tiles * weight_slots(layout, depth) * tiles::shape(layout).bytes;
}

// Where things lie in shared memory, and how many columns there is room for.
struct ProductPlan {
    uint32_t columns;  // of a slot of x
    uint32_t x_offset, weight_offset, table_offset, out_offset, weights_offset, list_offset;
    uint32_t bytes;
};

// The rows of x that a thread copies, columns thread / 8 + kCopyColumns i: bytes from the start of x. Side by
// side, or anywhere.
template <class Block>
struct StridedRows {
    uint32_t first, step;
    DS4_DEVICE static StridedRows of(uint32_t row_bytes) {
        return {threadIdx.x / 8 * row_bytes, Block::kCopyColumns * row_bytes};
    }
    DS4_DEVICE uint32_t operator[](uint32_t i) const { return first + i * step; }
};
template <class Block>
struct GatheredRows {
    uint32_t offset[Block::kCopies];
    DS4_DEVICE uint32_t operator[](uint32_t i) const { return offset[i]; }
};

// What a block multiplies next.
template <class Rows>
struct ProductTask {
    const uint8_t* x;  // of its first input
    Rows rows;
    uint32_t n_columns;
    const uint8_t* weights;  // of the block's first row tile
    uint32_t n_row_tiles;    // that there are, from it on
    uint32_t n_stages, input_tiles;
};

template <class Block, class Rows>
class ProductLoader {
  public:
    DS4_DEVICE ProductLoader(uint8_t* shared, const ProductPlan& plan)
        : x_(shared + plan.x_offset),
          weights_(shared + plan.weight_offset),
          slot_bytes_(plan.columns * kStageRowBytes) {}

    // Orders the first stages of a task. Nobody may use the slots any more.
    template <tiles::Layout layout>
    DS4_DEVICE void begin(const ProductTask<Rows>& task) {
        task_ = task;
        for (uint32_t s = 0; s < DS4_PRODUCT_DEPTH.ahead; ++s) order<layout>(s);
    }

    // Orders what stage s needs; past the end, nothing. To be called once for each stage, in order.
    template <tiles::Layout layout>
    DS4_DEVICE void order(uint32_t s) {
        if (s < task_.n_stages) {
            order_x(s);
            if (s % tile_stages(layout) == 0) order_weights<layout>(s / tile_stages(layout));
        }
        async_commit();
    }

    DS4_DEVICE const uint8_t* x(uint32_t s) const { return x_ + s % DS4_PRODUCT_DEPTH.slots * slot_bytes_; }
    // This warp's row tile r for stage s.
    template <tiles::Layout layout>
    DS4_DEVICE uint8_t* tile(uint32_t s, uint32_t r) const {
        const uint32_t slot = s / tile_stages(layout) % weight_slots(layout, DS4_PRODUCT_DEPTH);
        const uint32_t warp = threadIdx.x / 32;
        return weights_ + ((slot * Block::kWarps + warp) * kWarpTiles + r) * tiles::shape(layout).bytes;
    }
    DS4_DEVICE uint32_t n_stages() const { return task_.n_stages; }

  private:
    DS4_DEVICE void order_x(uint32_t s) {
        const uint32_t column = threadIdx.x / 8, piece = threadIdx.x % 8;
        uint8_t* to = x_ + s % DS4_PRODUCT_DEPTH.slots * slot_bytes_ + column * kStageRowBytes +
                      (piece ^ column % 8) * 16;
        const uint8_t* from = task_.x + s * kStageRowBytes + piece * 16;
#pragma unroll
        for (uint32_t i = 0; i < Block::kCopies; ++i) {
            if (column + Block::kCopyColumns * i < task_.n_columns) {
                async_copy16(to + Block::kCopyColumns * i * kStageRowBytes, from + task_.rows[i]);
            }
        }
    }
    template <tiles::Layout layout>
    DS4_DEVICE void order_weights(uint32_t input_tile) {
        constexpr uint32_t kBytes = tiles::shape(layout).bytes;
        const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
        for (uint32_t r = 0; r < kWarpTiles; ++r) {
            const uint32_t row_tile = warp * kWarpTiles + r;
            if (row_tile >= task_.n_row_tiles) continue;
            uint8_t* to = tile<layout>(input_tile * tile_stages(layout), r);
            const uint8_t* from =
                task_.weights + (static_cast<uint64_t>(row_tile) * task_.input_tiles + input_tile) * kBytes;
#pragma unroll
            for (uint32_t i = 0; i < kBytes; i += 512) {
                if (i + 16 * lane < kBytes) async_copy16(to + i + 16 * lane, from + i + 16 * lane);
            }
        }
    }

    ProductTask<Rows> task_;
    uint8_t *x_, *weights_;
    uint32_t slot_bytes_;
};

// Sums of a warp: row tile, columns 8i .. 8i+7, (row g columns 2q, 2q+1 | row g+8 the same).
template <uint32_t kColumns>
struct ProductSums {
    float tile[kWarpTiles][kColumns / 8][4];
};

#if defined(DS4_WGMMA)
template <uint32_t kColumns>
DS4_DEVICE void hold(ProductSums<kColumns>& sums) {
#pragma unroll
    for (uint32_t r = 0; r < kWarpTiles; ++r) {
#pragma unroll
        for (uint32_t i = 0; i < kColumns / 8; ++i) {
#pragma unroll
            for (uint32_t j = 0; j < 4; ++j) asm volatile("" : "+f"(sums.tile[r][i][j])::"memory");
        }
    }
}
#else
// The columns' halves of 16 inputs as B fragments of two products.
DS4_DEVICE void load_columns(const uint8_t* x, uint32_t step, uint32_t pair, uint32_t lane,
                             uint32_t (&b)[4]) {
    const uint32_t column = 16 * pair + lane / 16 * 8 + lane % 8, piece = 2 * step + lane / 8 % 2;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(shared_address(x + column * kStageRowBytes + (piece ^ column % 8) * 16))
                 : "memory");
}
#endif

// sums += 16 inputs, step `step` of a stage.
template <uint32_t kColumns>
DS4_DEVICE void multiply_step(const uint8_t* x, uint32_t step, const HalfFragment& first,
                              const HalfFragment& second, ProductSums<kColumns>& sums) {
#if defined(DS4_WGMMA)
    const uint64_t columns = wgmma_columns(x) + 2 * step;
    wgmma_fence();
    wgmma_f16(sums.tile[0], first.a, columns);
    wgmma_f16(sums.tile[1], second.a, columns);
    wgmma_commit();
#else
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t pair = 0; pair < kColumns / 16; ++pair) {
        uint32_t b[4];
        load_columns(x, step, pair, lane, b);
        mma_f16(sums.tile[0][2 * pair], first.a, b[0], b[1]);
        mma_f16(sums.tile[0][2 * pair + 1], first.a, b[2], b[3]);
        mma_f16(sums.tile[1][2 * pair], second.a, b[0], b[1]);
        mma_f16(sums.tile[1][2 * pair + 1], second.a, b[2], b[3]);
    }
#endif
}

// sums += the task that the loader has begun. Ends with a barrier: the slots are free.
template <tiles::Layout layout, uint32_t kColumns, class Block, class Rows>
DS4_DEVICE void multiply_task(ProductLoader<Block, Rows>& loader, const uint8_t* table,
                              ProductSums<kColumns>& sums) {
    const uint32_t lane = threadIdx.x % 32;
    constexpr Depth kDepth = DS4_PRODUCT_DEPTH;
    for (uint32_t s = 0; s < loader.n_stages(); ++s) {
        async_wait<static_cast<int>(kDepth.ahead) - 1>();
#if defined(DS4_WGMMA)
        copy_engine_fence();
#endif
        __syncthreads();
        loader.template order<layout>(s + kDepth.ahead);
        const uint8_t* x = loader.x(s);
        const uint32_t sub = s % tile_stages(layout);
        const HalfStage<layout> first(loader.template tile<layout>(s, 0), sub, table, lane);
        const HalfStage<layout> second(loader.template tile<layout>(s, 1), sub, table, lane);
        unrolled<2>([&](auto number) {
            constexpr uint32_t f = decltype(number)::value;
            const auto first_part = first.template part<f>(), second_part = second.template part<f>();
            unrolled<2>([&](auto step_number) {
                constexpr uint32_t step = decltype(step_number)::value;
#if defined(DS4_WGMMA)
                wgmma_wait<Block::kPending>();  // the steps before have let go of their registers
#endif
                multiply_step(x, 2 * f + step, first_part.template fragment<step>(),
                              second_part.template fragment<step>(), sums);
            });
        });
    }
#if defined(DS4_WGMMA)
    wgmma_wait<0>();
    hold(sums);
#endif
    __syncthreads();
}

template <uint32_t kColumns>
DS4_DEVICE void scale_sums(ProductSums<kColumns>& sums, float by) {
#pragma unroll
    for (uint32_t r = 0; r < kWarpTiles; ++r) {
#pragma unroll
        for (uint32_t i = 0; i < kColumns / 8; ++i) {
#pragma unroll
            for (uint32_t j = 0; j < 4; ++j) sums.tile[r][i][j] *= by;
        }
    }
}

// f(Index<columns>{}) with the fewest columns that are enough for n, at most `most`.
template <uint32_t most, class F>
DS4_DEVICE void with_columns(uint32_t n, const F& f) {
    if (n <= 32) {
        f(Index<32>{});
    } else if (n <= 48) {
        f(Index<48>{});
    } else if (most == 64 || n <= 64) {
        f(Index<64>{});
    } else if constexpr (most > 64) {
        if (n <= 96) {
            f(Index<96>{});
        } else {
            f(Index<128>{});
        }
    }
}

// ---- results, through shared memory: (columns, kOutWidth halves)

// n_rows: of kOutRows, those that there are. row(column): the address of the first.
template <class Block, class Row>
DS4_DEVICE void write_halves(const uint16_t* out, uint32_t n_columns, uint32_t n_rows, const Row& row) {
    constexpr uint32_t kPieces = Block::kOutRows / 8;
    for (uint32_t i = threadIdx.x; i < n_columns * kPieces; i += Block::kThreads) {
        const uint32_t column = i / kPieces, piece = i % kPieces;
        if (8 * piece >= n_rows) continue;
        *reinterpret_cast<uint4*>(row(column) + 8 * piece) =
            *reinterpret_cast<const uint4*>(out + column * Block::kOutWidth + 8 * piece);
    }
}

template <class Block>
DS4_DEVICE void put_half(uint16_t* out, uint32_t column, uint32_t row, float value) {
    out[column * Block::kOutWidth + tiles::half_place(row)] = static_cast<uint16_t>(pack_halves(value, 0));
}

// A warp's SwiGLU of its two row tiles times weight(column), into `out`: rows 16 * warp of the block's.
// Columns past the last are garbage, as their sums are.
template <class Block, uint32_t kColumns, class Weight>
DS4_DEVICE void put_swiglu(const ProductSums<kColumns>& sums, float scale, float clamp, uint16_t* out,
                           const Weight& weight) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t i = 0; i < kColumns / 8; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            const uint32_t column = 8 * i + lane % 4 * 2 + j % 2;
            const float v =
                swiglu(sums.tile[0][i][j] * scale, sums.tile[1][i][j] * scale, clamp) * weight(column);
            put_half<Block>(out, column, 16 * warp + lane / 4 + j / 2 * 8, v);
        }
    }
}

// A warp's two row tiles in f32: row(column) is the address of the block's first result, of n_rows.
template <uint32_t kColumns, class Row>
DS4_DEVICE void write_f32(const ProductSums<kColumns>& sums, float scale, uint32_t n_columns, uint32_t n_rows,
                          const Row& row) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t i = 0; i < kColumns / 8; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            const uint32_t column = 8 * i + lane % 4 * 2 + j;
            if (column >= n_columns) continue;
            float* to = row(column);
#pragma unroll
            for (uint32_t r = 0; r < kWarpTiles; ++r) {
#pragma unroll
                for (uint32_t half = 0; half < 2; ++half) {
                    const uint32_t o = (warp * kWarpTiles + r) * tiles::kRows + lane / 4 + 8 * half;
                    if (o < n_rows) __stcs(to + o, sums.tile[r][i][2 * half + j] * scale);
                }
            }
        }
    }
}

}  // namespace ds4::gpu::cuda
