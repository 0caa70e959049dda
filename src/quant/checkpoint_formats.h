#pragma once

#include <cstddef>
#include <cstdint>

// The weight formats of the released checkpoint (safetensors). model.md 14.7
namespace ds4::quant {

inline constexpr std::size_t kFp8Tile = 128;       // rows and columns under one scale of an FP8 matrix
inline constexpr std::size_t kFp4ScaleBlock = 32;  // values of a row under one scale of an FP4 matrix

// E4M3: 1-4-3 bits, bias 7, no infinities. Its NaN codes (0x7f, 0xff) decode to 0.
float e4m3_to_f32(std::uint8_t code);

// F8_E4M3 weights with an F8_E8M0 scale per tile of 128 x 128; the tiles of the last row and column may be
// cut.
struct Fp8Matrix {
    const std::byte* weight;  // (rows, cols)
    const std::byte* scale;   // (ceil(rows / 128), ceil(cols / 128))
    std::size_t rows;
    std::size_t cols;
};

// Decodes rows [begin, end), end <= rows, to values (end - begin, cols). A NaN scale gives NaN values.
void decode_fp8_rows(const Fp8Matrix& matrix, std::size_t begin, std::size_t end, float* values);

// FP4 (E2M1) weights, two neighbours per byte, the first in the low nibble, with an F8_E8M0 scale per 32
// values.
struct Fp4Matrix {
    const std::byte* weight;  // (rows, cols / 2)
    const std::byte* scale;   // (rows, cols / 32)
    std::size_t rows;
    std::size_t cols;  // a multiple of 32
};

// Decodes rows [begin, end), end <= rows, to values (end - begin, cols). A NaN scale gives NaN values.
void decode_fp4_rows(const Fp4Matrix& matrix, std::size_t begin, std::size_t end, float* values);

// Reorders rows [begin, end) into MXFP4 blocks (end - begin, cols / 32): the same codes under the same
// scales, so that nothing is lost. A NaN scale stays one; find_bad_scale of MXFP4 reports it.
void repack_fp4_rows(const Fp4Matrix& matrix, std::size_t begin, std::size_t end, std::byte* blocks);

}  // namespace ds4::quant
