#pragma once

#include "backend/gpu/kernels/memory.h"
#include "backend/gpu/matrix_args.h"

// Activations in int8 as products with tiles take them (ActBlock): scale = largest magnitude / 127, codes
// rounded to nearest even. Groups with a NaN or an infinity get the scale NaN; groups too small for f32
// reciprocals count as zero.
namespace ds4::gpu::DS4_DIALECT {

struct Quantiser {
    float scale, inverse;

    // The code in the low byte. Adding 1.5 * 2^23 leaves the rounded integer in the low mantissa bits.
    DS4_FN uint32_t code(float x) const { return as_uint(x * inverse + 12582912.0f) & 255; }
};

DS4_FN uint32_t magnitude_bits(float x) {
    return as_uint(x) & 0x7fffffffu;
}
// For a group with this largest magnitude, as bits: they order like magnitudes, infinity and NaN on top.
DS4_FN Quantiser quantiser_of(uint32_t largest_bits) {
    const float scale = as_float(largest_bits) / 127.0f;
    const float inverse = 1.0f / scale;
    if (largest_bits >= 0x7f800000u) return {as_float(0x7fc00000u), 0};
    if (magnitude_bits(inverse) >= 0x7f800000u) return {0, 0};
    return {scale, inverse};
}

// Inputs 4i .. 4i + 3 of a block.
DS4_FN uint32_t codes_of(const DS4_GLOBAL ActBlock& block, uint32_t i) {
    return load_u32(reinterpret_cast<const DS4_GLOBAL uint8_t*>(block.code) + 4 * i);
}

// A SIMD-group's 32 values, one a lane, as group g of a row of blocks; their two sums if wanted.
DS4_FN void store_group(Thread t, float v, DS4_GLOBAL ActBlock* row, DS4_GLOBAL float* sums, uint32_t g) {
    const Quantiser quantiser = quantiser_of(simd_max(t, magnitude_bits(v)));
    const auto code = static_cast<int8_t>(quantiser.code(v));
    DS4_GLOBAL ActBlock& block = row[g / 8];
    block.code[g % 8 * 32 + t.lane] = code;
    if (t.lane == 0) block.scale[g % 8] = quantiser.scale;
    int32_t sum = code;
    for (uint32_t mask = 1; mask < kSumInputs; mask *= 2) sum += simd_shuffle_xor(t, sum, mask);
    if (sums != nullptr && t.lane % kSumInputs == 0) {
        sums[2 * g + t.lane / kSumInputs] = quantiser.scale * static_cast<float>(sum);
    }
}

// 256 values x as a block with one scale, and its sums. By one SIMD-group, eight values a lane.
DS4_FN void store_block(Thread t, const DS4_GLOBAL float* x, DS4_GLOBAL ActBlock& block,
                        DS4_GLOBAL float* sums) {
    const DS4_GLOBAL float* of_lane = x + 8 * t.lane;
    uint32_t largest = 0;
    DS4_UNROLL
    for (uint32_t i = 0; i < 8; ++i) largest = larger(largest, magnitude_bits(of_lane[i]));
    const Quantiser quantiser = quantiser_of(simd_max(t, largest));
    uint32_t words[2] = {0, 0};
    int32_t sum = 0;
    DS4_UNROLL
    for (uint32_t i = 0; i < 8; ++i) {
        const uint32_t code = quantiser.code(of_lane[i]);
        words[i / 4] |= code << (8 * (i % 4));
        sum += static_cast<int8_t>(code);
    }
    auto* codes = reinterpret_cast<DS4_GLOBAL uint8_t*>(block.code) + 8 * t.lane;
    store_u32(codes, words[0]);
    store_u32(codes + 4, words[1]);
    if (t.lane < 8) block.scale[t.lane] = quantiser.scale;
    sum += simd_shuffle_xor(t, sum, 1);
    if (t.lane % 2 == 0) sums[t.lane / 2] = quantiser.scale * static_cast<float>(sum);
}

}  // namespace ds4::gpu::DS4_DIALECT
