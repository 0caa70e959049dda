#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

// The form in which quantised weights and activations meet, whatever the weight format.
//
// A row is cut into chunks of 512 values: 16 groups of 32, one group per 32-bit lane of a 64-byte register.
// Eight registers hold a chunk; register j holds, side by side, the values j, 8 + j, 16 + j, 24 + j of every
// group:
//
//     register j:   | group 0               | group 1               | ... | group 15              |
//                   | j, 8+j, 16+j, 24+j    | j, 8+j, 16+j, 24+j    |     | j, 8+j, 16+j, 24+j    |
//
// An instruction that adds the products of four neighbouring bytes to a 32-bit lane (vpdpbusd, sdot) thus
// leaves, after eight of them, the complete integer dot product of group g in lane g, and nothing is ever
// added across lanes before the end of the row. Integers are exact, so the instruction set and its register
// width do not matter. (Any four values would do; these are the ones that a look-up of IQ2_XXS yields for its
// four tuples of 8.) In f32, lane g then does, chunk after chunk,
//
//     sum[g] = fma(t, activation scale, sum[g])   with   t = dot * weight scale                 (symmetric)
//                                                        t = fma(-m, minimum scale, that)       (affine)
//
// where m, again an integer, is the product of the group's minima with the activation's sums of 16 codes. At
// the end the 16 lanes are added as a tree: lane i and i + 8, i + 4, i + 2, i + 1. That order is the same
// for every instruction set, for a row alone and for a row among others.
//
// A row that ends inside a chunk goes on with zeroes under scales of zero.
namespace ds4::cpu {

inline constexpr std::size_t kLanes = 16;               // groups of a chunk
inline constexpr std::size_t kGroup = 32;               // values of a group
inline constexpr std::size_t kChunk = kLanes * kGroup;  // values of a chunk
inline constexpr std::size_t kRegister = 64;            // bytes

constexpr std::size_t chunks_of(std::size_t n) {
    return (n + kChunk - 1) / kChunk;
}

// Where value i of group g stands in the 512 bytes of a chunk.
constexpr std::size_t place_in_chunk(std::size_t g, std::size_t i) {
    return i % 8 * kRegister + 4 * g + i / 8;
}

// 512 activations: codes in -127 .. 127.
struct alignas(kRegister) ActivationChunk {
    std::int8_t code[kChunk];
    std::int16_t sum[kLanes][2];  // of the codes of a group's first and last 16 values
    float scale[kLanes];
};
static_assert(sizeof(ActivationChunk) == 640);

// Half of an E8M0 scale, 2^(e - 128), by e: MXFP4 is multiplied with doubled values, which are integers.
inline constexpr auto kHalfScales = [] {
    std::array<float, 256> scales{};
    for (std::uint32_t e = 0; e < 255; ++e)
        scales[e] = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    scales[255] = std::numeric_limits<float>::quiet_NaN();
    return scales;
}();
// The doubled values of MXFP4's codes.
inline constexpr std::int8_t kDoubledE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace ds4::cpu
