#pragma once

// To be included before foreach_target.h: the instruction sets that Highway must not compile our kernels for.
//
// Vectors of unknown size (SVE, RVV) do not fit the fixed bundles of dot_lanes-inl.h; there NEON runs.
// AVX3_DL, off by default, makes Highway 1.0.3 turn on AVX-VNNI, which Zen 4 and Ice Lake do not have.
#define DS4_UNFIT_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#if defined(DS4_FEWER_SIMD_TARGETS)  // sanitizer builds, see cmake/flags.cmake
#define HWY_DISABLED_TARGETS (DS4_UNFIT_TARGETS | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3)
#else
#define HWY_DISABLED_TARGETS DS4_UNFIT_TARGETS
#endif
