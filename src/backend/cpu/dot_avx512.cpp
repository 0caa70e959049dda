// multiply_rows for AVX-512 with VNNI, VBMI and GFNI (Ice Lake, Zen 4 and later): registers of a whole chunk,
// vpdpbusd, and permutations of bytes over 64 and 128 of them, which decode the 2-bit formats without a table
// in memory. Highway 1.0.3 has no target for these CPUs that runs on all of them.
#include "backend/cpu/dot_targets.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "backend/cpu/dot_chunk.h"
#include "hwy/base.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

// g++ 12 warns of its own headers' undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define DS4_AVX512_TARGETS                                                                                  \
    "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vnni,avx512vbmi,avx512vbmi2,avx512bitalg,gfni,avx2," \
    "fma,f16c,bmi,bmi2,popcnt,lzcnt"
#define DS4_KERNELS_BEGIN                   \
    HWY_PUSH_ATTRIBUTES(DS4_AVX512_TARGETS) \
    namespace ds4::cpu::avx512 {
#define DS4_KERNELS_END \
    }                   \
    HWY_POP_ATTRIBUTES

#include "backend/cpu/dot_lanes_avx512-inl.h"
// After the operations.
#include "backend/cpu/dot_formats_avx512-inl.h"
// After the formats.
#include "backend/cpu/dot_kernels-inl.h"

namespace ds4::cpu {
namespace {

bool usable() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
           __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("gfni");
}

}  // namespace

const ExtraTarget kAvx512Target{"AVX512_VNNI", usable, avx512::multiply_on_target};

}  // namespace ds4::cpu

#endif
