// multiply_rows for CPUs with AVX-VNNI but without AVX-512 (Alder Lake and later): the kernels of Highway's
// AVX2 target with vpdpbusd in place of two multiplications and their additions.
#include "backend/cpu/dot_targets.h"

#if defined(__x86_64__)

#include <cpuid.h>

#include "backend/cpu/simd_config.h"

// AVX2 alone, beside what the compiler takes for granted.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (DS4_UNFIT_TARGETS | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/dot_avxvnni.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#define DS4_HAS_AVX_VNNI
#define DS4_KERNELS_BEGIN          \
    HWY_BEFORE_NAMESPACE();        \
    HWY_PUSH_ATTRIBUTES("avxvnni") \
    namespace ds4::cpu::avxvnni {
#define DS4_KERNELS_END \
    }                   \
    HWY_POP_ATTRIBUTES  \
    HWY_AFTER_NAMESPACE();

#if HWY_TARGET == HWY_AVX2
#include "backend/cpu/dot_lanes-inl.h"
// After the operations.
#include "backend/cpu/dot_formats-inl.h"
// After the formats.
#include "backend/cpu/dot_kernels-inl.h"
#endif

#undef DS4_KERNELS_BEGIN
#undef DS4_KERNELS_END

#if HWY_ONCE
namespace ds4::cpu {
namespace {

bool usable() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool has_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
    return has_vnni && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}

}  // namespace

const ExtraTarget kAvxVnniTarget{"AVX_VNNI", usable, avxvnni::multiply_on_target};

}  // namespace ds4::cpu
#endif  // HWY_ONCE

#endif
