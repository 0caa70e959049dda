#pragma once

#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/matrix_args.h"

// Quantisation of activations, with the bits of the CPU backend's q8_0 form: scale = max / 127, codes rounded
// to nearest even. Groups with a NaN or an infinity get the scale NaN; groups too small for f32 reciprocals
// count as zero.
namespace ds4::gpu::cuda {

// Magnitudes as bits order like the magnitudes, with infinity and NaN on top.
DS4_DEVICE uint32_t magnitude(float x) {
    return __float_as_uint(x) & 0x7fffffffu;
}

// The largest of the magnitudes of 2^log lanes side by side, in all of them.
template <int kLanes>
DS4_DEVICE uint32_t largest(uint32_t bits) {
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, mask));
    return bits;
}

struct ActScale {
    float scale, inverse;
};
DS4_DEVICE ActScale act_scale(uint32_t largest_bits) {
    const float scale = __fdiv_rn(__uint_as_float(largest_bits), 127.0f);
    const float inverse = __fdiv_rn(1.0f, scale);
    if (largest_bits >= 0x7f800000u) return {__uint_as_float(0x7fc00000u), 0};
    if (magnitude(inverse) >= 0x7f800000u) return {0, 0};
    return {scale, inverse};
}

// The code in the low byte. Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
DS4_DEVICE uint32_t act_code(float x, float inverse) {
    return __float_as_uint(__fadd_rn(__fmul_rn(x, inverse), 0x1.8p23f));
}
DS4_DEVICE uint32_t act_codes(float4 x, float inverse) {
    const uint32_t low = permute(act_code(x.x, inverse), act_code(x.y, inverse), 0x0040);
    const uint32_t high = permute(act_code(x.z, inverse), act_code(x.w, inverse), 0x0040);
    return permute(low, high, 0x5410);
}
DS4_DEVICE uint32_t largest_of(float4 x) {
    return max(max(magnitude(x.x), magnitude(x.y)), max(magnitude(x.z), magnitude(x.w)));
}

// model.md 10
DS4_DEVICE float swiglu(float gate, float up, float clamp) {
    if (clamp > 1e-6f) {
        gate = fminf(gate, clamp);
        up = fminf(fmaxf(up, -clamp), clamp);
    }
    return __fdiv_rn(gate, 1.0f + expf(-gate)) * up;
}

}  // namespace ds4::gpu::cuda
