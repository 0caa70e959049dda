#include "quant/checkpoint_formats.h"

#include <algorithm>
#include <array>
#include <bit>

#include "quant/float_bits.h"
#include "quant/mxfp4.h"

namespace ds4::quant {
namespace {

constexpr float decode_e4m3(std::uint32_t code) {
    const std::uint32_t magnitude = code & 0x7f;
    const std::uint32_t mantissa = code & 7;
    const std::uint32_t sign = (code & 0x80) << 24;
    if (magnitude == 0x7f) return 0.0f;
    if (magnitude < 8) {  // subnormal: multiples of 2^-9; the sign of zero is kept
        const float value = static_cast<float>(mantissa) * 0x1p-9f;
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
    }
    const std::uint32_t exponent = (magnitude >> 3) - 7 + 127;
    return std::bit_cast<float>(sign | exponent << 23 | mantissa << 20);
}

constexpr auto kE4m3Values = [] {
    std::array<float, 256> values{};
    for (std::uint32_t code = 0; code < 256; ++code) values[code] = decode_e4m3(code);
    return values;
}();

std::uint8_t byte_at(const std::byte* p, std::size_t i) {
    return std::to_integer<std::uint8_t>(p[i]);
}

// weight: 16 bytes of adjacent pairs -> q: the 16 bytes of an MXFP4 block.
void repack_pairs(const std::byte* weight, std::uint8_t* q) {
    const auto code = [weight](std::size_t i) { return (byte_at(weight, i / 2) >> (4 * (i % 2))) & 15; };
    for (std::size_t i = 0; i < 16; ++i) q[i] = static_cast<std::uint8_t>(code(i) | code(i + 16) << 4);
}

}  // namespace

float e4m3_to_f32(std::uint8_t code) {
    return kE4m3Values[code];
}

void decode_fp8_rows(const Fp8Matrix& matrix, std::size_t begin, std::size_t end, float* values) {
    const std::size_t tiles = (matrix.cols + kFp8Tile - 1) / kFp8Tile;
    for (std::size_t row = begin; row < end; ++row, values += matrix.cols) {
        const std::byte* weight = matrix.weight + row * matrix.cols;
        const std::byte* scales = matrix.scale + row / kFp8Tile * tiles;
        for (std::size_t tile = 0; tile < tiles; ++tile) {
            const float scale = e8m0_to_f32(byte_at(scales, tile));
            const std::size_t last = std::min((tile + 1) * kFp8Tile, matrix.cols);
            for (std::size_t i = tile * kFp8Tile; i < last; ++i)
                values[i] = kE4m3Values[byte_at(weight, i)] * scale;
        }
    }
}

void decode_fp4_rows(const Fp4Matrix& matrix, std::size_t begin, std::size_t end, float* values) {
    for (std::size_t row = begin; row < end; ++row, values += matrix.cols) {
        const std::byte* weight = matrix.weight + row * (matrix.cols / 2);
        const std::byte* scales = matrix.scale + row * (matrix.cols / kFp4ScaleBlock);
        for (std::size_t i = 0; i < matrix.cols; i += 2) {
            const float scale = e8m0_to_f32(byte_at(scales, i / kFp4ScaleBlock));
            const std::uint8_t pair = byte_at(weight, i / 2);
            values[i] = kE2m1Values[pair & 15] * scale;
            values[i + 1] = kE2m1Values[pair >> 4] * scale;
        }
    }
}

void repack_fp4_rows(const Fp4Matrix& matrix, std::size_t begin, std::size_t end, std::byte* blocks) {
    const std::size_t row_blocks = matrix.cols / kFp4ScaleBlock;
    for (std::size_t b = begin * row_blocks; b < end * row_blocks; ++b, blocks += sizeof(BlockMxfp4)) {
        BlockMxfp4 block;
        block.e = byte_at(matrix.scale, b);
        repack_pairs(matrix.weight + b * (kFp4ScaleBlock / 2), block.q);
        store(blocks, block);
    }
}

}  // namespace ds4::quant
