#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/activations.h"

// The simulated rounding of the model (model.md 9), bit for bit that of quant/rounding.h.
namespace ds4::gpu::DS4_DIALECT {

constexpr uint32_t kFp8Block = 64;
constexpr float kFp8Max = 448, kFp8Floor = 1e-4f;
constexpr float kFp4Max = 6, kFp4Floor = 7.052966104933725e-38f;

// The exponent of the smallest power of two under which a block with this maximum fits a grid that ends at
// max.
DS4_FN uint32_t scale_exponent(float amax, float max) {
    return (as_uint(amax * (1.0f / max)) + 0x007fffffu) >> 23;
}

// |y| to the nearest value of a grid with this many mantissa bits, normal from 2^min_exponent on; ties to
// even. Adding and taking away 2^23 steps makes the f32 adder do the rounding.
DS4_FN float round_to_grid(float y, uint32_t mantissa_bits, int32_t min_exponent, float max) {
    const uint32_t bits = as_uint(y);
    const float magnitude = smaller(as_float(bits & kMagnitudeMask), max);
    const uint32_t min_normal = static_cast<uint32_t>(127 + min_exponent) << 23;
    const uint32_t power = larger(as_uint(magnitude) & kExponentMask, min_normal);
    const float shift = as_float(power + ((23 - mantissa_bits) << 23));
    return as_float(as_uint((magnitude + shift) - shift) | (bits & ~kMagnitudeMask));
}
DS4_FN float round_e4m3(float y) {
    return round_to_grid(y, 3, -6, kFp8Max);
}
DS4_FN float round_e2m1(float y) {
    return round_to_grid(y, 1, 0, kFp4Max);
}

// The scale of a block whose largest magnitude has these bits; NaN if it holds a NaN or an infinity.
DS4_FN float block_scale(uint32_t max_bits, float floor, float max) {
    if (max_bits >= kExponentMask) return as_float(0x7fc00000u);
    return as_float(scale_exponent(larger(as_float(max_bits), floor), max) << 23);
}

// One value of a block under its scale.
DS4_FN float round_fp8(float x, float scale) {
    return is_finite(scale) ? round_e4m3(x * (1.0f / scale)) * scale : scale;
}
DS4_FN float round_fp4(float x, float scale) {
    return is_finite(scale) ? round_e2m1(x * (1.0f / scale)) * scale : scale;
}

// The scale of a block of 64 of which every lane holds two values.
DS4_FN float fp8_scale(Thread t, float x, float y) {
    const uint32_t bits = larger(as_uint(x) & kMagnitudeMask, as_uint(y) & kMagnitudeMask);
    return block_scale(simd_max(t, bits), kFp8Floor, kFp8Max);
}
// The scale of a block of 32 of which every lane holds one value.
DS4_FN float fp4_scale(Thread t, float x) {
    return block_scale(simd_max(t, as_uint(x) & kMagnitudeMask), kFp4Floor, kFp4Max);
}

// A SIMD-group per block of 64.
DS4_FN void round_fp8_row(Thread t, DS4_GLOBAL float* row, uint32_t width, uint32_t n_tail,
                          bool tail_to_f16) {
    const uint32_t n = width - n_tail;
    for (uint32_t block = t.simd; block < n / kFp8Block; block += t.n_simds) {
        DS4_GLOBAL float* x = row + block * kFp8Block + t.lane;
        const float scale = fp8_scale(t, x[0], x[32]);
        x[0] = round_fp8(x[0], scale);
        x[32] = round_fp8(x[32], scale);
    }
    if (!tail_to_f16) return;
    for (uint32_t i = n + t.index; i < width; i += t.n_threads) row[i] = f16_to_f32(f32_to_f16(row[i]));
}

DS4_KERNEL(round_fp8, RoundFp8Args, NoShared) {
    round_fp8_row(t, a.x + static_cast<int64_t>(t.group) * a.width, a.width, a.n_tail, a.tail_to_f16 != 0);
}

constexpr uint32_t kHadamardParts = kMaxIndexDim / kSimdWidth;

// Sylvester order, scaled, then FP4: value i of n (a power of two) is v[i / 32] of lane i % 32. model.md 9.2
DS4_FN void hadamard_fp4(Thread t, DS4_LOCAL float* v, uint32_t n, float factor, bool rounds) {
    const uint32_t n_parts = n / kSimdWidth;
    for (uint32_t stride = 1; stride < kSimdWidth; stride *= 2) {
        DS4_UNROLL
        for (uint32_t k = 0; k < kHadamardParts; ++k) {
            if (k >= n_parts) continue;
            const float other = simd_shuffle_xor(t, v[k], stride);
            v[k] = (t.lane & stride) == 0 ? v[k] + other : other - v[k];
        }
    }
    DS4_UNROLL
    for (uint32_t stride = 1; stride < kHadamardParts; stride *= 2) {
        DS4_UNROLL
        for (uint32_t k = 0; k < kHadamardParts; ++k) {
            if (stride >= n_parts || (k & stride) != 0 || k >= n_parts) continue;
            const float sum = v[k] + v[k + stride];
            v[k + stride] = v[k] - v[k + stride];
            v[k] = sum;
        }
    }
    DS4_UNROLL
    for (uint32_t k = 0; k < kHadamardParts; ++k) {
        if (k >= n_parts) continue;
        v[k] *= factor;
        if (rounds) v[k] = round_fp4(v[k], fp4_scale(t, v[k]));
    }
}

// A SIMD-group per head.
DS4_FN void round_hadamard_fp4_head(Thread t, DS4_GLOBAL float* x, uint32_t n, float scale) {
    float v[kHadamardParts];
    DS4_UNROLL
    for (uint32_t k = 0; k < kHadamardParts; ++k) {
        v[k] = k * kSimdWidth < n ? x[k * kSimdWidth + t.lane] : 0;
    }
    hadamard_fp4(t, v, n, scale, true);
    DS4_UNROLL
    for (uint32_t k = 0; k < kHadamardParts; ++k) {
        if (k * kSimdWidth < n) x[k * kSimdWidth + t.lane] = v[k];
    }
}

DS4_KERNEL(round_hadamard_fp4, RoundFp4Args, NoShared) {
    const uint32_t head = t.group * t.n_simds + t.simd;
    if (head >= a.n_heads) return;
    round_hadamard_fp4_head(t, a.x + static_cast<int64_t>(head) * a.head_dim, a.head_dim, a.scale);
}

}  // namespace ds4::gpu::DS4_DIALECT
