#pragma once

#include <cstdint>

#include "quant/format.h"

// MXFP4: 32 values of FP4 (E2M1) under one power-of-two scale. model.md 14.6
namespace ds4::quant {

struct BlockMxfp4 {
    std::uint8_t e;      // E8M0: scale 2^(e - 127); 255 is NaN
    std::uint8_t q[16];  // value i: low nibble of q[i] for i < 16, else high nibble of q[i - 16]
};
static_assert(sizeof(BlockMxfp4) == 17);

extern const Format kMxfp4;

}  // namespace ds4::quant
