#pragma once

#include <cstdint>
#include <cstring>

#include "quant/float_bits.h"
#include "quant/format.h"

// Q4_K: 256 values of 4 bits; 8 sub-blocks of 32 with a 6-bit scale and a 6-bit minimum each. model.md 14.2
namespace ds4::quant {

struct BlockQ4K {
    std::uint16_t d;          // f16, scales the scales
    std::uint16_t dmin;       // f16, scales the minima
    std::uint8_t scales[12];  // packed, see unpack_scales
    std::uint8_t q[128];      // value i: byte 32 * (i / 64) + i % 32, low nibble if i % 64 < 32, else high
};
static_assert(sizeof(BlockQ4K) == 144);

struct ScalesQ4K {
    std::uint8_t scale[8];    // (sub-blocks), 0..63
    std::uint8_t minimum[8];  // (sub-blocks), 0..63
};

// Four 6-bit fields at a time, one per byte of a word: j < 4 lie in the low six bits of the first two words,
// the others in the nibbles of the third word with their upper two bits on top of the first two.
inline ScalesQ4K unpack_scales(const std::byte* packed) {
    const auto first = load<std::uint32_t>(packed);
    const auto second = load<std::uint32_t>(packed + 4);
    const auto third = load<std::uint32_t>(packed + 8);
    const std::uint32_t scale[2] = {first & 0x3f3f3f3f, (third & 0x0f0f0f0f) | ((first >> 2) & 0x30303030)};
    const std::uint32_t minimum[2] = {second & 0x3f3f3f3f,
                                      ((third >> 4) & 0x0f0f0f0f) | ((second >> 2) & 0x30303030)};
    ScalesQ4K s;
    std::memcpy(s.scale, scale, sizeof s.scale);
    std::memcpy(s.minimum, minimum, sizeof s.minimum);
    return s;
}

extern const Format kQ4K;

}  // namespace ds4::quant
