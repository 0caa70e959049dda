#pragma once

#include <cstdint>

#include "quant/format.h"

// Q8_0: 32 values of 8 bits under one f16 scale. model.md 14.1
namespace ds4::quant {

struct BlockQ8_0 {
    std::uint16_t d;    // f16 scale
    std::int8_t q[32];  // value i = d * q[i]
};
static_assert(sizeof(BlockQ8_0) == 34);

extern const Format kQ8_0;

}  // namespace ds4::quant
