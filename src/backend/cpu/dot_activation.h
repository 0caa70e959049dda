#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/dot.h"

// The layout of prepared activation rows, shared by prepare_activation, the kernels and the oracle. The parts
// of a row lie one after the other (codes of all blocks, then all scales), so that the kernels read long
// runs.
namespace ds4::cpu {

inline constexpr std::size_t kQ8_0Block = 32;  // values per scale
inline constexpr std::size_t kQ8KBlock = 256;  // values per scale
inline constexpr std::size_t kQ8KSum = 16;     // values per sum of codes

// q8_0: int8 codes (n) in -127..127, then f32 scales (n / 32).
constexpr std::size_t q8_0_scales_offset(std::size_t n) {
    return n;
}

// q8_k: int8 codes (n) in -127..127, then i16 sums of 16 codes (n / 16), then f32 scales (n / 256).
constexpr std::size_t q8_k_sums_offset(std::size_t n) {
    return n;
}
constexpr std::size_t q8_k_scales_offset(std::size_t n) {
    return n + n / kQ8KSum * sizeof(std::int16_t);
}

}  // namespace ds4::cpu
