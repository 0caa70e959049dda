#pragma once

#include <cstddef>
#include <cstdint>

// The simulated quantisation of the model's training graph (model.md 9): values are rounded to the FP8 or FP4
// grid with a power-of-two scale per block and come back as f32. All arithmetic is f32; a value that rounds
// to zero keeps its sign. A block that holds a NaN or an infinity comes back as NaN throughout. Bit-exact
// against tests/data/golden/rounding.
namespace ds4::quant {

inline constexpr std::size_t kFp8Block = 64;  // values per scale, model.md 9.1
inline constexpr std::size_t kFp4Block = 32;  // values per scale, model.md 9.2
// Largest values of the grids, and the smallest block maxima that their scales are made for.
inline constexpr float kFp8Max = 448, kFp8Floor = 1e-4F;
inline constexpr float kFp4Max = 6, kFp4Floor = 6 * 0x1p-126F;

// The scale of a block with this finite maximum, at least the floor, as an E8M0 exponent: the smallest power
// of two under which it fits a grid that ends at `max`.
std::uint8_t scale_exponent(float amax, float max);

// E4M3 round trip in place, blocks of 64; n is a multiple of 64. model.md 9.1
void round_fp8(float* x, std::size_t n);

// E2M1 round trip in place, blocks of 32; n is a multiple of 32. model.md 9.2
void round_fp4(float* x, std::size_t n);

// Sylvester-order Hadamard transform in place, scaled by n^-0.5; n is a power of two. model.md 9.2
void hadamard(float* x, std::size_t n);

}  // namespace ds4::quant
