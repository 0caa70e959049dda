#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

// Products of stored weight rows with activation rows: the inner loop of every matrix product on the CPU.
// dot_chunk.h has the form in which they meet.
namespace ds4::cpu {

// How an activation row is stored for a weight format. Quantised weights meet int8 activations, so that the
// products are integers (model.md 9.3, 14.8); float weights meet f32.
enum class ActivationFormat {
    f32,   // n floats
    q8_0,  // for Q8_0 and MXFP4: ActivationChunks with a scale (amax / 127) per 32 values
    q8_k,  // for Q2_K, Q4_K, IQ2_XXS: the same with a scale per 256 values (model.md 14.8)
};

// throws Error for I32, which holds no weights.
ActivationFormat activation_format(quant::Type weights);

// Bytes of one prepared activation row of n values, a multiple of 64 so that rows stay aligned.
std::size_t activation_bytes(ActivationFormat format, std::size_t n);

// Prepares one activation row: x (n) -> out (activation_bytes, 64-byte aligned). n must be a multiple of the
// format's block, 32 or 256; any n will do for f32. For f32 this is a copy: multiply_rows reads no more than
// the n floats and may be given the rows of x themselves. A block with a NaN or an infinity makes every
// product with it NaN; a block whose largest magnitude is below about 4e-37 counts as zero.
void prepare_activation(ActivationFormat format, const float* x, std::size_t n, std::byte* out);

// Weight rows as they lie in a file, at any address.
struct WeightRows {
    quant::Type type = quant::Type::f32;
    const std::byte* data = nullptr;
    std::size_t row_bytes = 0;  // from row to row
    std::size_t n = 0;          // rows
    std::size_t width = 0;      // values of a row, a multiple of the format's block

    const std::byte* row(std::size_t o) const { return data + o * row_bytes; }
    WeightRows slice(std::size_t first, std::size_t count) const {
        return {type, row(first), row_bytes, count, width};
    }
};

// Activation rows in the format that the weights ask for, equally spaced.
struct Activations {
    const std::byte* data = nullptr;
    std::size_t stride = 0;  // bytes from row to row
    std::size_t n = 0;       // rows

    const std::byte* row(std::size_t r) const { return data + r * stride; }
    Activations slice(std::size_t first, std::size_t count) const { return {row(first), stride, count}; }
};

// y[r * y_stride + o] = row o of w . row r of x. Integers are summed exactly per group of 32 values and
// scaled in f32. A result has the same bits whatever the other rows are, and on every instruction set that
// can multiply and add with one rounding.
void multiply_rows(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride);

// The same product in plain C++, for tests and for machines without vectors we know: the bits that
// multiply_rows must have.
float dot_canonical(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act);

// The oracle: from decoded weights and decoded activations, accumulated in double. Slow; for tests.
double dot_reference(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act);

// The instruction set multiply_rows runs on, e.g. "AVX3"; chosen once at run time.
const char* simd_target();

}  // namespace ds4::cpu
