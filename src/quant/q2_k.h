#pragma once

#include <cstdint>

#include "quant/format.h"

// Q2_K: 256 values of 2 bits; 16 sub-blocks of 16 with a 4-bit scale and a 4-bit minimum each. model.md 14.3
namespace ds4::quant {

struct BlockQ2K {
    std::uint8_t scales[16];  // per sub-block: low nibble scale, high nibble minimum
    // Value i: half h = i / 128, plane p = i % 128 / 32; byte 32h + i % 32, bits 2p and 2p + 1.
    std::uint8_t q[64];
    std::uint16_t d;     // f16, scales the scales
    std::uint16_t dmin;  // f16, scales the minima
};
static_assert(sizeof(BlockQ2K) == 84);

extern const Format kQ2K;

}  // namespace ds4::quant
