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

const char* extra_target() {
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? "NEON_DOTPROD" : nullptr;
}

void multiply_rows_extra(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    dotprod::multiply_on_target(w, x, y, y_stride);
}

}  // namespace ds4::cpu

#endif
