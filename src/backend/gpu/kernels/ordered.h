#pragma once

#include "backend/gpu/dialect.h"

namespace ds4::gpu::DS4_DIALECT {

// An integer that orders like the float; every number is above 0. -0 is below 0.
DS4_FN uint32_t ordered(float x) {
    const uint32_t bits = as_uint(x);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

}  // namespace ds4::gpu::DS4_DIALECT
