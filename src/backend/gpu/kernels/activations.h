#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/dialect.h"
#include "backend/gpu/kernels/memory.h"

// Activation rows in int8, as quantised weights meet them; the same maths and layout as on the CPU
// (cpu/dot_activation.h): codes of all values, sums of 16 codes (q8_k only), then f32 scales per 32 (q8_0) or
// 256 (q8_k) values. A block with a NaN or an infinity gets the scale NaN; one below about 4e-37 counts as
// zero. model.md 9.3, 14.8
namespace ds4::gpu::DS4_DIALECT {

// A prepared row of n values.
struct ActivationRow {
    const DS4_GLOBAL uint8_t* data;
    uint32_t n;

    // Codes 4i .. 4i + 3.
    DS4_FN uint32_t codes(uint32_t i) const { return load_u32(data + 4 * i); }
    DS4_FN float scale_of_32(uint32_t block) const { return load_f32(data + n + 4 * block); }
    DS4_FN float scale_of_256(uint32_t block) const { return load_f32(data + n + n / 8 + 4 * block); }
    DS4_FN int32_t sum_of_16(uint32_t i) const { return static_cast<int16_t>(load_u16(data + n + 2 * i)); }
};

constexpr uint32_t kExponentMask = 0x7f800000u;
constexpr uint32_t kMagnitudeMask = 0x7fffffffu;

DS4_FN bool is_finite(float x) {
    return (as_uint(x) & kExponentMask) != kExponentMask;
}

// The nearest integer, ties to even, as a byte; |x| <= 128. Adding 1.5 * 2^23 leaves it in the low mantissa
// bits.
DS4_FN uint32_t nearest_byte(float x) {
    return as_uint(x + 12582912.0f) & 255;
}

// A SIMD-group per block of 32.
DS4_KERNEL(prepare_q8_0, PrepareArgs, NoShared) {
    const uint32_t block = t.group_y * t.n_simds + t.simd;
    if (block >= a.width / 32) return;
    const uint32_t i = block * 32 + t.lane;
    DS4_GLOBAL uint8_t* out = a.out + static_cast<int64_t>(t.group) * a.stride;
    const float x = a.x[static_cast<int64_t>(t.group) * a.width + i];
    // Bits of magnitudes order like the magnitudes, infinity and NaN on top.
    const uint32_t max_bits = simd_max(t, as_uint(x) & kMagnitudeMask);
    float scale = as_float(max_bits) / 127.0f;
    const float inverse = 1.0f / scale;
    uint32_t code = 0;
    if (max_bits >= kExponentMask) {
        scale = as_float(0x7fc00000u);
    } else if (!is_finite(inverse)) {
        scale = 0;
    } else {
        code = nearest_byte(x * inverse);
    }
    out[i] = static_cast<uint8_t>(code);
    if (t.lane == 0) store_u32(out + a.width + 4 * block, as_uint(scale));
}

// A SIMD-group per block of 256, eight consecutive values per lane. The scale has the sign that turns the
// first value of the largest magnitude into -127.
DS4_KERNEL(prepare_q8_k, PrepareArgs, NoShared) {
    const uint32_t block = t.group_y * t.n_simds + t.simd;
    if (block >= a.width / 256) return;
    const uint32_t first = block * 256 + 8 * t.lane;
    DS4_GLOBAL uint8_t* out = a.out + static_cast<int64_t>(t.group) * a.stride;
    const DS4_GLOBAL float* x = a.x + static_cast<int64_t>(t.group) * a.width + first;
    uint32_t max_bits = 0;
    for (uint32_t i = 0; i < 8; ++i) max_bits = larger(max_bits, as_uint(x[i]) & kMagnitudeMask);
    max_bits = simd_max(t, max_bits);
    // The largest has a key for its place that is higher the earlier it is.
    uint32_t key = 0;
    for (uint32_t i = 0; i < 8; ++i) {
        if ((as_uint(x[i]) & kMagnitudeMask) == max_bits) key = larger(key, 256 - (8 * t.lane + i));
    }
    key = simd_max(t, key);
    const float largest = (x - 8 * t.lane)[256 - key];
    const float inverse = -127.0f / largest;
    const bool is_bad = max_bits >= kExponentMask;
    const bool is_zero = !is_bad && !is_finite(inverse);
    uint32_t words[2] = {0, 0};
    int32_t sum = 0;
    for (uint32_t i = 0; i < 8 && !is_bad && !is_zero; ++i) {
        const uint32_t code = nearest_byte(x[i] * inverse);
        words[i / 4] |= code << (8 * (i % 4));
        sum += static_cast<int8_t>(code);
    }
    store_u32(out + first, words[0]);
    store_u32(out + first + 4, words[1]);
    sum += simd_shuffle_xor(t, sum, 1);
    if (t.lane % 2 == 0) store_u16_bytes(out + a.width + first / 8, static_cast<uint32_t>(sum));
    if (t.lane == 0) {
        const float scale = is_bad ? as_float(0x7fc00000u) : is_zero ? 0 : 1.0f / inverse;
        store_u32(out + a.width + a.width / 8 + 4 * block, as_uint(scale));
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
