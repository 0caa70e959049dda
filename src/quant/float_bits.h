#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

// Bit-level conversions between the narrow float formats and f32 (model.md 14.5, 14.7). All of them are
// branch-free in the common case, so that loops over them vectorise.
namespace ds4::quant {

// Reads a value at any address: rows of weights are used in place from a file and need not be aligned.
template <typename T>
T load(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

template <typename T>
void store(std::byte* p, const T& value) {
    std::memcpy(p, &value, sizeof value);
}

inline constexpr std::uint32_t kF32ExponentMask = 0x7f800000;
inline constexpr std::uint32_t kF32MagnitudeMask = 0x7fffffff;

// True for NaN and the infinities.
inline bool is_f32_nonfinite(float x) {
    return (std::bit_cast<std::uint32_t>(x) & kF32ExponentMask) == kF32ExponentMask;
}
inline bool is_f16_nonfinite(std::uint16_t h) {
    return (h & 0x7c00) == 0x7c00;
}
inline bool is_bf16_nonfinite(std::uint16_t h) {
    return (h & 0x7f80) == 0x7f80;
}

// Exact, subnormals included; NaN keeps its payload.
inline float f16_to_f32(std::uint16_t h) {
    const std::uint32_t magnitude = h & 0x7fffu;
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
    // Rebias the exponent from 15 to 127; infinities and NaN go from 31 to 255.
    const std::uint32_t rebias = magnitude >= 0x7c00 ? 224u << 23 : 112u << 23;
    const std::uint32_t normal = (magnitude << 13) + rebias;
    const auto subnormal =
        std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24f);
    return std::bit_cast<float>(sign | (magnitude < 0x0400 ? subnormal : normal));
}

// Round to nearest, ties to even; overflow gives infinity; NaN stays a (quiet) NaN.
inline std::uint16_t f32_to_f16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = bits & kF32MagnitudeMask;
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
    if (magnitude > kF32ExponentMask) {
        return static_cast<std::uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x01ff));
    }
    if (magnitude >= 0x477ff000) {  // 65520: half way between the largest f16 and the next power of two
        return static_cast<std::uint16_t>(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) {  // below 2^-14: adding 0.5 leaves the multiple of 2^-24 in the low bits
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
    }
    const std::uint32_t odd = (magnitude >> 13) & 1;
    return static_cast<std::uint16_t>(sign | ((magnitude - (112u << 23) + 0x0fff + odd) >> 13));
}

inline float bf16_to_f32(std::uint16_t h) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

// Round to nearest, ties to even; NaN stays a (quiet) NaN.
inline std::uint16_t f32_to_bf16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & kF32MagnitudeMask) > kF32ExponentMask)
        return static_cast<std::uint16_t>((bits >> 16) | 0x0040);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// An E8M0 scale: 2^(e - 127); e = 0 gives the subnormal 2^-127, e = 255 NaN. model.md 14.7
inline float e8m0_to_f32(std::uint8_t e) {
    if (e == 255) return std::numeric_limits<float>::quiet_NaN();
    return std::bit_cast<float>(e == 0 ? 0x00400000u : static_cast<std::uint32_t>(e) << 23);
}

// The E2M1 codes of FP4: bit 3 is the sign, code 8 is -0. model.md 9.2
inline constexpr float kE2m1Values[16] = {0.f,  0.5f,  1.f,  1.5f,  2.f,  3.f,  4.f,  6.f,
                                          -0.f, -0.5f, -1.f, -1.5f, -2.f, -3.f, -4.f, -6.f};

}  // namespace ds4::quant
