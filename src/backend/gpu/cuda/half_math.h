#pragma once

#include "backend/gpu/cuda/ptx.h"

// Instructions of attention beside those of ptx.h.
namespace ds4::gpu::cuda {

DS4_DEVICE uint32_t multiply_halves(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
DS4_DEVICE float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- from shared memory

// Four 8 x 8 matrices of halves: lane 8 i + r names row r of matrix i; lane 4g + q gets of each the pair
// (row g, columns 2q, 2q + 1), transposed (rows 2q, 2q + 1, column g).
DS4_DEVICE void load_matrices(uint32_t (&m)[4], uint32_t row_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(row_address)
                 : "memory");
}
DS4_DEVICE void load_matrices_transposed(uint32_t (&m)[4], uint32_t row_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(row_address)
                 : "memory");
}

}  // namespace ds4::gpu::cuda
