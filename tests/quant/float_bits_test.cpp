#include "quant/float_bits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace ds4::quant {
namespace {

// The definition of IEEE binary16, in double.
double f16_by_definition(std::uint32_t h) {
    const double sign = h & 0x8000 ? -1 : 1;
    const int exponent = static_cast<int>((h >> 10) & 31);
    const int mantissa = static_cast<int>(h & 1023);
    if (exponent == 31) return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(FloatBits, EveryF16CodeDecodesByDefinitionAndEncodesBack) {
    for (std::uint32_t h = 0; h < 0x10000; ++h) {
        const float value = f16_to_f32(static_cast<std::uint16_t>(h));
        const double expected = f16_by_definition(h);
        if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(value)) << h;
            ASSERT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << h;
            continue;
        }
        ASSERT_EQ(value, expected) << h;
        ASSERT_EQ(std::signbit(value), std::signbit(expected)) << h;
        ASSERT_EQ(f32_to_f16(value), h);
    }
}

TEST(FloatBits, F16RoundsToNearestEvenBetweenAllNeighbours) {
    for (std::uint32_t h = 0; h < 0x7bff; ++h) {  // positive and finite, with a finite successor
        const float low = f16_to_f32(static_cast<std::uint16_t>(h));
        const float high = f16_to_f32(static_cast<std::uint16_t>(h + 1));
        const float middle = (low + high) / 2;  // exact: f32 has 13 more bits
        const std::uint32_t even = h % 2 == 0 ? h : h + 1;
        ASSERT_EQ(f32_to_f16(middle), even) << h;
        ASSERT_EQ(f32_to_f16(std::nextafter(middle, low)), h);
        ASSERT_EQ(f32_to_f16(std::nextafter(middle, high)), h + 1);
        ASSERT_EQ(f32_to_f16(-std::nextafter(middle, high)), (h + 1) | 0x8000);
    }
}

TEST(FloatBits, F16Overflow) {
    EXPECT_EQ(f32_to_f16(65504.0f), 0x7bff);
    EXPECT_EQ(f32_to_f16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
    EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
    EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::max()), 0xfc00);
    EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::infinity()), 0x7c00);
    EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
    // A NaN whose payload lies only in the bits that are cut off must not turn into infinity.
    EXPECT_TRUE(is_f16_nonfinite(f32_to_f16(std::bit_cast<float>(0x7f800001u))));
    EXPECT_NE(f32_to_f16(std::bit_cast<float>(0x7f800001u)) & 0x03ff, 0);
}

TEST(FloatBits, Bf16RoundsToNearestEven) {
    std::mt19937 random(1);
    for (int i = 0; i < 100000; ++i) {
        const auto h = static_cast<std::uint16_t>(random());
        const float value = bf16_to_f32(h);
        if (std::isnan(value)) {
            ASSERT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value))));
            continue;
        }
        ASSERT_EQ(f32_to_bf16(value), h);
        if (is_bf16_nonfinite(h)) continue;
        const std::uint32_t bits = static_cast<std::uint32_t>(h) << 16;
        const auto even = static_cast<std::uint16_t>(h % 2 == 0 ? h : h + 1);
        ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x7fff)), h);
        ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8000)), even);
        ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8001)), h + 1);
    }
    EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(FloatBits, E8m0IsAPowerOfTwo) {
    for (int e = 0; e < 255; ++e) {
        ASSERT_EQ(e8m0_to_f32(static_cast<std::uint8_t>(e)), std::ldexp(1.0f, e - 127)) << e;
    }
    EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
}

}  // namespace
}  // namespace ds4::quant
