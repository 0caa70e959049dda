#pragma once

#include "backend/gpu/matrix_args.h"
#include "device_memory.h"

// What the programs about the matrix families share: random weights and plain references.
namespace ds4::gpu::bench {

// Random blocks of a format with sane scales: values of about N(0, 1 / 64).
void fill_blocks(tiles::Layout layout, std::uint8_t* blocks, std::size_t n_blocks, std::uint32_t seed);

// y[r][o] = sum_i w[o][i] x[r][i] in f64, w as in the file. selectors: of the codebook
// (tiles::iq2_selectors).
void reference_product(tiles::Layout layout, const std::uint8_t* blocks, std::uint32_t n_out,
                       std::uint32_t n_in, const float* x, std::uint32_t n, std::uint32_t x_stride,
                       const std::uint32_t* selectors, double* y, std::uint32_t y_stride);

// GB/s of reading 4 GB.
double read_bandwidth();
// TFLOP/s of products of halves with f32 sums and nothing else to do, random data.
double product_rate();

// x (n values in blocks) as the activations of one row, a scale for every `group`.
inline std::vector<ActBlock> quantised(const std::vector<float>& x, std::size_t group) {
    std::vector<ActBlock> blocks(x.size() / kActInputs);
    for (std::size_t first = 0; first < x.size(); first += group) {
        float largest = 0;
        for (std::size_t i = first; i < first + group; ++i) largest = std::max(largest, std::fabs(x[i]));
        const float scale = largest / 127.0f, inverse = 1.0f / scale;
        for (std::size_t i = first; i < first + group; ++i) {
            ActBlock& b = blocks[i / kActInputs];
            b.code[i % kActInputs] = static_cast<std::int8_t>(std::nearbyintf(x[i] * inverse));
            b.scale[i % kActInputs / 32] = scale;
        }
    }
    return blocks;
}

inline std::vector<float> values(const std::vector<ActBlock>& blocks) {
    std::vector<float> x(blocks.size() * kActInputs);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const ActBlock& b = blocks[i / kActInputs];
        x[i] = b.scale[i % kActInputs / 32] * static_cast<float>(b.code[i % kActInputs]);
    }
    return x;
}

inline std::vector<float> sums(const std::vector<ActBlock>& blocks) {
    std::vector<float> s(blocks.size() * (kActInputs / kSumInputs));
    for (std::size_t i = 0; i < s.size(); ++i) {
        const ActBlock& b = blocks[i / 16];
        int sum = 0;
        for (std::size_t j = 0; j < kSumInputs; ++j) sum += b.code[i % 16 * 16 + j];
        s[i] = b.scale[i % 16 / 2] * static_cast<float>(sum);
    }
    return s;
}

// Halves in the order of the tiles as values in the order of the inputs; width a multiple of 32.
inline std::vector<float> from_halves(const std::vector<std::uint16_t>& halves) {
    std::vector<float> x(halves.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::uint16_t h = halves[i / 32 * 32 + tiles::half_place(static_cast<std::uint32_t>(i % 32))];
        const int exponent = h >> 10 & 31, mantissa = h & 1023;
        const float magnitude = exponent == 31 ? NAN
                                : exponent == 0
                                    ? std::ldexp(static_cast<float>(mantissa), -24)
                                    : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
        x[i] = h >> 15 ? -magnitude : magnitude;
    }
    return x;
}

}  // namespace ds4::gpu::bench
