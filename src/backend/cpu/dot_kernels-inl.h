// multiply_rows for one instruction set: on the vector operations of dot_lanes*-inl.h and the decoders of
// dot_formats*-inl.h, which are included before, between DS4_KERNELS_BEGIN and DS4_KERNELS_END of the
// including file.
#if defined(DS4_DOT_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_KERNELS_INL_H
#undef DS4_DOT_KERNELS_INL_H
#else
#define DS4_DOT_KERNELS_INL_H
#endif

#include <cstddef>

#include "backend/cpu/dot_prefetch-inl.h"
// After prefetching.
#include "backend/cpu/dot_floats-inl.h"
#include "backend/cpu/dot_quantised-inl.h"

DS4_KERNELS_BEGIN

inline void multiply_on_target(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    switch (w.type) {
        case quant::Type::f32:
            return multiply_floats<FormatF32>(w, x, y, y_stride);
        case quant::Type::f16:
            return multiply_floats<FormatF16>(w, x, y, y_stride);
        case quant::Type::bf16:
            return multiply_floats<FormatBf16>(w, x, y, y_stride);
        case quant::Type::q8_0:
            return multiply_quantised<FormatQ8_0>(w, x, y, y_stride);
        case quant::Type::mxfp4:
            return multiply_quantised<FormatMxfp4>(w, x, y, y_stride);
        case quant::Type::q2_k:
            return multiply_quantised<FormatQ2K>(w, x, y, y_stride);
        case quant::Type::q4_k:
            return multiply_quantised<FormatQ4K>(w, x, y, y_stride);
        case quant::Type::iq2_xxs:
            return multiply_quantised<FormatIQ2XXS>(w, x, y, y_stride);
        case quant::Type::i32:
            break;  // refused by activation_format
    }
}

DS4_KERNELS_END

#endif  // per-target include guard
