#include <algorithm>

#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/tiles.h"

// Weights from the file's blocks into tiles, one word a thread. The words of a block are read by the threads
// of a few neighbouring warps, so that the cache makes up for the scattered bytes; the disk is slower by far.
namespace ds4::gpu::cuda {
namespace {

__global__ void repack_kernel(const __grid_constant__ RepackArgs a) {
    const auto layout = static_cast<tiles::Layout>(a.layout);
    const tiles::Shape shape = tiles::shape(layout);
    const uint32_t words = shape.bytes / 4;
    const uint32_t row_tiles = tiles::divide_up(a.n_out, tiles::kRows);
    const uint32_t input_tiles = tiles::divide_up(a.n_in, shape.inputs);
    const uint64_t per_matrix = static_cast<uint64_t>(row_tiles) * input_tiles * words;
    const uint64_t n = per_matrix * a.stack;
    for (uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x; i < n;
         i += static_cast<uint64_t>(gridDim.x) * blockDim.x) {
        const uint64_t matrix = i / per_matrix, in_matrix = i % per_matrix;
        const auto word = static_cast<uint32_t>(in_matrix % words);
        const auto tile = static_cast<uint32_t>(in_matrix / words);
        const uint32_t row_tile = tile / input_tiles, input_tile = tile % input_tiles;
        const tiles::Source source{a.from + matrix * a.from_bytes, a.n_out, a.n_in};
        const uint64_t to =
            (static_cast<uint64_t>(row_tile) * a.tile_step + a.tile_first) * input_tiles + input_tile;
        reinterpret_cast<uint32_t*>(a.to + matrix * a.to_bytes)[to * words + word] =
            tiles::word(layout, source, row_tile, input_tile, word);
    }
}

}  // namespace

cudaError_t launch_repack(const RepackArgs& a, cudaStream_t stream) {
    repack_kernel<<<device_shape().multiprocessors * 8, 256, 0, stream>>>(a);
    return cudaGetLastError();
}

}  // namespace ds4::gpu::cuda
