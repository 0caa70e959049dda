#include "backend/gpu/cuda/wgmma.h"
#include "support.h"

namespace ds4::gpu::bench {
namespace {

using tiles::Layout;

__device__ std::uint32_t mixed(std::uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return static_cast<std::uint32_t>(x >> 32);
}

__device__ std::uint16_t half_bits(float x) {
    std::uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
__device__ float half_value(const std::uint8_t* p) {
    const auto h = static_cast<std::uint16_t>(p[0] | p[1] << 8);
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
__device__ void put_half(std::uint8_t* p, float x) {
    const std::uint16_t h = half_bits(x);
    p[0] = static_cast<std::uint8_t>(h);
    p[1] = static_cast<std::uint8_t>(h >> 8);
}

__global__ void fill_kernel(Layout layout, std::uint8_t* blocks, std::size_t n_blocks, std::uint32_t seed) {
    const tiles::Shape s = tiles::shape(layout);
    for (std::size_t b = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; b < n_blocks;
         b += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
        std::uint8_t* block = blocks + b * s.block_bytes;
        const std::uint64_t key = (static_cast<std::uint64_t>(seed) << 40) + b * 64;
        for (std::uint32_t i = 0; i < s.block_bytes; i += 4) {
            const std::uint32_t r = mixed(key + i / 4);
            for (std::uint32_t j = 0; j < 4 && i + j < s.block_bytes; ++j) {
                block[i + j] = static_cast<std::uint8_t>(r >> (8 * j));
            }
        }
        const std::uint32_t r = mixed(key + 63);
        const float spread = 0.5f + static_cast<float>(r & 255) / 255;
        switch (layout) {
            case Layout::q8_0:
                put_half(block, spread / 4700);
                break;
            case Layout::f16:
                put_half(block, (static_cast<float>(r & 0xffff) / 32768 - 1) / 37);
                break;
            case Layout::iq2_xxs:
                put_half(block, spread / 6400);
                break;
            case Layout::q2_k:
                put_half(block + 80, spread / 1000);
                put_half(block + 82, spread / 700);
                break;
            case Layout::q4_k:
                put_half(block, spread / 20000);
                put_half(block + 2, spread / 2700);
                break;
        }
    }
}

// Element i of a block, from model.md 14.
__device__ float element(Layout layout, const std::uint8_t* b, std::uint32_t i,
                         const std::uint32_t* selectors) {
    switch (layout) {
        case Layout::q8_0:
            return half_value(b) * static_cast<float>(static_cast<std::int8_t>(b[2 + i]));
        case Layout::f16:
            return half_value(b);
        case Layout::iq2_xxs: {
            const std::uint8_t* group = b + 2 + i / 32 * 8;
            const std::uint32_t l = i % 32 / 8, j = i % 8;
            const std::uint32_t word =
                group[4] | group[5] << 8 | group[6] << 16 | static_cast<std::uint32_t>(group[7]) << 24;
            const std::uint32_t code = selectors[group[l]] >> (4 * j) & 15;
            const float magnitude = code == 0 ? 8 : code == 1 ? 25 : 43;
            const std::uint32_t index = word >> (7 * l) & 127;
            const std::uint32_t negative = j < 7 ? index >> j & 1 : __popc(index) & 1;
            const float value = half_value(b) * (0.5f + static_cast<float>(word >> 28)) * 0.25f * magnitude;
            return negative ? -value : value;
        }
        case Layout::q2_k: {
            const std::uint32_t h = i / 128, j = i % 128 / 32, t = i % 32 / 16;
            const std::uint8_t s = b[8 * h + 2 * j + t];
            const float q = static_cast<float>(b[16 + 32 * h + i % 32] >> (2 * j) & 3);
            return half_value(b + 80) * static_cast<float>(s & 15) * q -
                   half_value(b + 82) * static_cast<float>(s >> 4);
        }
        case Layout::q4_k: {
            const std::uint8_t* s = b + 4;
            const std::uint32_t j = i / 32;
            const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
            const int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
            const int q = b[16 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
            return half_value(b) * static_cast<float>(scale * q) -
                   half_value(b + 2) * static_cast<float>(minimum);
        }
    }
    return 0;
}

__global__ void reference_kernel(Layout layout, const std::uint8_t* blocks, std::uint32_t n_out,
                                 std::uint32_t n_in, const float* x, std::uint32_t n, std::uint32_t x_stride,
                                 const std::uint32_t* selectors, double* y, std::uint32_t y_stride) {
    const tiles::Shape s = tiles::shape(layout);
    const std::uint32_t lane = threadIdx.x % 32, n_warps = gridDim.x * blockDim.x / 32;
    for (std::uint32_t row = (blockIdx.x * blockDim.x + threadIdx.x) / 32; row < n_out; row += n_warps) {
        const std::uint8_t* of_row =
            blocks + static_cast<std::uint64_t>(row) * (n_in / s.block_elems) * s.block_bytes;
        for (std::uint32_t r = 0; r < n; ++r) {
            double sum = 0;
            for (std::uint32_t i = lane; i < n_in; i += 32) {
                const float w =
                    element(layout, of_row + i / s.block_elems * s.block_bytes, i % s.block_elems, selectors);
                sum += static_cast<double>(w) *
                       static_cast<double>(x[static_cast<std::uint64_t>(r) * x_stride + i]);
            }
            for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
            if (lane == 0) y[static_cast<std::uint64_t>(r) * y_stride + row] = sum;
        }
    }
}

__global__ void read_kernel(const uint4* from, std::size_t n, std::uint32_t* out) {
    std::uint32_t sum = 0;
    const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
    std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x;
    for (; i + 7 * step < n; i += 8 * step) {
        uint4 v[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (sum == 0x12345678u) *out = sum;
}

constexpr std::uint32_t kRateSteps = 4096, kRateColumns = 128;

// 256 threads: each warp 16 rows x 128 columns x 16 inputs a step.
__global__ void __launch_bounds__(256, 1) rate_kernel(float* out) {
    __shared__ __align__(1024) std::uint32_t columns[kRateColumns * 32];
    for (std::uint32_t i = threadIdx.x; i < kRateColumns * 32; i += 256) {
        columns[i] = (mixed(i) & 0x83ff83ffu) | 0x38003800u;  // +-[0.5, 1)
    }
    std::uint32_t a[4];
    for (std::uint32_t i = 0; i < 4; ++i)
        a[i] = (mixed(threadIdx.x * 4 + i + 100000) & 0x83ff83ffu) | 0x38003800u;
    __syncthreads();
    float c[2][kRateColumns / 8][4] = {};
#if defined(DS4_WGMMA)
    cuda::copy_engine_fence();
    __syncthreads();
    const std::uint64_t b = cuda::wgmma_columns(columns);
    for (std::uint32_t step = 0; step < kRateSteps; step += 2) {
        cuda::wgmma_fence();
        cuda::wgmma_f16(c[0], a, b);
        cuda::wgmma_f16(c[1], a, b + 2);
        cuda::wgmma_commit();
        cuda::wgmma_wait<1>();
    }
    cuda::wgmma_wait<0>();
#else
    for (std::uint32_t step = 0; step < kRateSteps; step += 2) {
#pragma unroll
        for (std::uint32_t i = 0; i < kRateColumns / 8; ++i) {
            const std::uint32_t b = columns[threadIdx.x % 32 + i];
            cuda::mma_f16(c[0][i], a, b, a[0]);
            cuda::mma_f16(c[1][i], a, a[1], b);
        }
    }
#endif
    float sum = 0;
#pragma unroll
    for (std::uint32_t i = 0; i < kRateColumns / 8; ++i) {
#pragma unroll
        for (std::uint32_t j = 0; j < 4; ++j) sum += c[0][i][j] + c[1][i][j];
    }
    if (sum == 12345.0f) *out = sum;
}

double median(std::vector<float> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

}  // namespace

void fill_blocks(Layout layout, std::uint8_t* blocks, std::size_t n_blocks, std::uint32_t seed) {
    fill_kernel<<<2048, 256>>>(layout, blocks, n_blocks, seed);
    check(cudaGetLastError(), "fill");
}

void reference_product(Layout layout, const std::uint8_t* blocks, std::uint32_t n_out, std::uint32_t n_in,
                       const float* x, std::uint32_t n, std::uint32_t x_stride,
                       const std::uint32_t* selectors, double* y, std::uint32_t y_stride) {
    reference_kernel<<<std::min(n_out / 8 + 1, 4096u), 256>>>(layout, blocks, n_out, n_in, x, n, x_stride,
                                                              selectors, y, y_stride);
    check(cudaGetLastError(), "reference");
}

double read_bandwidth() {
    const std::size_t bytes = std::size_t{4} << 30;
    Device<uint4> from(bytes / 16);
    Device<std::uint32_t> out(1);
    fill_blocks(Layout::f16, reinterpret_cast<std::uint8_t*>(from.get()), bytes / 2, 1);
    double best = INFINITY;
    for (const int blocks_a_processor : {2, 4, 8}) {
        int processors = 0;
        check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "device");
        best = std::min(best, seconds_a_launch(2, [&](int, cudaStream_t stream) {
                            read_kernel<<<processors * blocks_a_processor, 512, 0, stream>>>(
                                from.get(), bytes / 16, out.get());
                        }));
    }
    return static_cast<double>(bytes) / best / 1e9;
}

double product_rate() {
    Device<float> out(1);
    int processors = 0;
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "device");
    const double seconds = seconds_a_launch(
        4, [&](int, cudaStream_t stream) { rate_kernel<<<processors, 256, 0, stream>>>(out.get()); });
    return processors * 8.0 * kRateSteps * 16 * kRateColumns * 16 * 2 / seconds / 1e12;
}

double seconds_a_launch(int n, const std::function<void(int, cudaStream_t)>& launch) {
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    check(cudaDeviceSynchronize(), "before timing");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < n; ++i) launch(i, stream);
    cudaGraph_t graph;
    check(cudaStreamEndCapture(stream, &graph), "capture");
    cudaGraphExec_t exec;
    check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    std::vector<float> milliseconds;
    for (int replay = -3; replay < 15; ++replay) {
        check(cudaEventRecord(begin, stream), "record");
        check(cudaGraphLaunch(exec, stream), "replay");
        check(cudaEventRecord(end, stream), "record");
        check(cudaEventSynchronize(end), "replay");
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin, end), "elapsed");
        if (replay >= 0) milliseconds.push_back(ms);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    return median(milliseconds) / 1e3 / n;
}

}  // namespace ds4::gpu::bench
