#pragma once

#include <array>
#include <cstdint>

#include "quant/format.h"

// IQ2_XXS: 256 values in 8 groups of 32; each tuple of 8 magnitudes is a row of a fixed codebook.
// model.md 14.4
namespace ds4::quant {

struct GroupIQ2XXS {
    std::uint8_t grid[4];           // codebook rows of values 8l .. 8l + 7
    std::uint32_t signs_and_scale;  // bits 7l .. 7l + 6: sign index of tuple l; bits 28 .. 31: scale
};
static_assert(sizeof(GroupIQ2XXS) == 8);

#pragma pack(push, 1)
struct BlockIQ2XXS {
    std::uint16_t d;  // f16 scale
    GroupIQ2XXS groups[8];
};
#pragma pack(pop)
static_assert(sizeof(BlockIQ2XXS) == 66);

// The codebook: byte j (from the lowest) of row r is the magnitude of element j, one of 8, 25, 43. 2 KiB.
extern const std::array<std::uint64_t, 256> kIq2xxsGrid;

// The same as codes 0, 1, 2: byte 256 k + r holds elements k (low nibble) and k + 4 (high) of row r. Small
// enough for look-ups in registers.
alignas(64) extern const std::array<std::uint8_t, 1024> kIq2xxsNibbles;

// Signs of a tuple from its 7-bit index: bit j set means element j is negative; bit 7 makes their number
// even.
constexpr std::uint8_t iq2xxs_signs(std::uint32_t index) {
    std::uint32_t parity = index ^ (index >> 4);
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return static_cast<std::uint8_t>(index | ((parity & 1) << 7));
}

extern const Format kIQ2XXS;

}  // namespace ds4::quant
