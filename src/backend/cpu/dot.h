#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

// Dot products of stored weight rows with activation rows: the inner loop of every matrix product on the CPU.
namespace ds4::cpu {

// How an activation row is stored for a weight format. Quantised weights meet int8 activations, so that the
// products are integers (model.md 9.3, 14.8); float weights meet f32.
enum class ActivationFormat {
    f32,   // n floats
    q8_0,  // for Q8_0 and MXFP4: per 32 values an f32 scale (amax / 127) and int8 codes
    q8_k,  // for Q2_K, Q4_K, IQ2_XXS: per 256 values an f32 scale, int8 codes, sums of 16 (model.md 14.8)
};

// throws Error for I32, which holds no weights.
ActivationFormat activation_format(quant::Type weights);

// Bytes of one prepared activation row of n values, a multiple of 64 so that rows stay aligned.
std::size_t activation_bytes(ActivationFormat format, std::size_t n);

// Prepares one activation row: x (n) -> out (activation_bytes). n must be a multiple of the format's block,
// 32 or 256; any n will do for f32. For f32 this is a copy: dot_row reads no more than the n floats and may
// be given the rows of x themselves. A block with a NaN or an infinity makes every product with it NaN; a
// block whose largest magnitude is below about 4e-37 counts as zero.
void prepare_activation(ActivationFormat format, const float* x, std::size_t n, std::byte* out);

// y[r] = w . acts[r] for r < n_acts. w: one weight row of n values in `type`, at any address; acts: rows
// prepared in activation_format(type), act_stride bytes apart; y: y_stride floats apart. n is a multiple of
// the weight format's block, so for F32, F16 and BF16 it is any number. Integers are summed exactly per block
// and scaled in f32. Every y[r] has the same bits whatever n_acts is, so a token does not depend on its
// batch.
void dot_row(quant::Type type, const std::byte* w, std::size_t n, const std::byte* acts,
             std::size_t act_stride, std::size_t n_acts, float* y, std::size_t y_stride);

// The oracle: the same from decoded weights and decoded activations, accumulated in double. Slow; for tests.
double dot_reference(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act);

// The instruction set dot_row runs on, e.g. "AVX3"; chosen once at run time.
const char* simd_target();

}  // namespace ds4::cpu
