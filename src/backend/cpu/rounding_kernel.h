#pragma once

#include <cstddef>

// quant/rounding.h bit for bit, vectorised for the instruction set found at run time. model.md 9
namespace ds4::cpu {

// quant::round_fp8, n a multiple of 64.
void round_fp8(float* x, std::size_t n);

// quant::hadamard, then quant::round_fp4; n is a power of two from 32 on.
void round_hadamard_fp4(float* x, std::size_t n);

}  // namespace ds4::cpu
