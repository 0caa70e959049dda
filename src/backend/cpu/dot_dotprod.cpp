// multiply_rows for ARM CPUs with the dot product extension (Cortex-A75, Apple M1, Neoverse N1 and later):
// the kernels of Highway's NEON target with sdot in place of two widening products and their additions.
#include "backend/cpu/dot_targets.h"

#if defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "hwy/highway.h"

#define DS4_HAS_SDOT
#define DS4_KERNELS_BEGIN                                \
    HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+dotprod+crypto") \
    namespace ds4::cpu::dotprod {
#define DS4_KERNELS_END \
    }                   \
    HWY_POP_ATTRIBUTES

#include "backend/cpu/dot_lanes-inl.h"
// After the operations.
#include "backend/cpu/dot_formats-inl.h"
// After the formats.
#include "backend/cpu/dot_kernels-inl.h"

namespace ds4::cpu {
namespace {

bool usable() {
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

}  // namespace

const ExtraTarget kDotprodTarget{"NEON_DOTPROD", usable, dotprod::multiply_on_target};

}  // namespace ds4::cpu

#endif
