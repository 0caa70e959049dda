#include "quant/kv_rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "quant/rounding.h"

namespace ds4::quant {
namespace {

std::vector<float> round_trip(const KvRowFormat& format, const std::vector<float>& x) {
    std::vector<std::byte> row(format.bytes + 1, std::byte{0x5a});
    encode_kv_row(format, x.data(), row.data());
    EXPECT_EQ(row.back(), std::byte{0x5a}) << "wrote past the row";
    std::vector<float> out(x.size());
    decode_kv_row(format, row.data(), out.data());
    return out;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& x) {
    std::vector<std::uint32_t> bits;
    for (const float v : x) bits.push_back(std::bit_cast<std::uint32_t>(v));
    return bits;
}

// Rows of every magnitude, with zeros of both signs.
std::vector<float> random_row(std::mt19937& random, std::size_t n) {
    std::normal_distribution<float> gauss;
    std::uniform_int_distribution<int> exponent(-60, 60);
    std::vector<float> x(n);
    float scale = 1;
    for (std::size_t i = 0; i < n; ++i) {
        if (i % 32 == 0) scale = std::ldexp(1.0F, exponent(random));
        x[i] = gauss(random) * scale;
        if (i % 17 == 0) x[i] = i % 2 == 0 ? 0.0F : -0.0F;
    }
    return x;
}

TEST(KvRows, HaveTheSizesOfTheSpecification) {
    EXPECT_EQ(KvRowFormat::attention(KvFormat::packed, 512, 64).bytes, 583U);
    EXPECT_EQ(KvRowFormat::indexer(KvFormat::packed, 128).bytes, 68U);
    EXPECT_EQ(KvRowFormat::attention(KvFormat::f16, 512, 64).bytes, 1024U);
    EXPECT_EQ(KvRowFormat::indexer(KvFormat::f32, 128).bytes, 512U);
}

TEST(KvRows, RoundedAttentionRowsComeBackBitForBit) {
    const KvRowFormat format = KvRowFormat::attention(KvFormat::packed, 512, 64);
    std::mt19937 random(1);
    for (int i = 0; i < 2000; ++i) {
        std::vector<float> x = random_row(random, 512);
        round_fp8(x.data(), 448);
        round_f16(x.data() + 448, 64);
        ASSERT_EQ(bits_of(round_trip(format, x)), bits_of(x)) << i;
    }
}

// Every value of the grid, at every place of the block's scale.
TEST(KvRows, EveryFp8ValueComesBack) {
    const KvRowFormat format = KvRowFormat::attention(KvFormat::packed, 64, 0);
    for (int exponent = 0; exponent < 16; ++exponent) {
        for (int mantissa = 0; mantissa < 8; ++mantissa) {
            const float value = exponent == 0
                                    ? std::ldexp(static_cast<float>(mantissa), -9)
                                    : std::ldexp(1 + static_cast<float>(mantissa) / 8, exponent - 7);
            if (value > 448) continue;
            for (const float max : {448.0F, 256.0F, 240.0F}) {
                for (const float scale : {0x1p-22F, 1.0F, 0x1p100F}) {
                    std::vector<float> x(64, value * scale);
                    x[7] = max * scale;
                    x[9] = -value * scale;
                    round_fp8(x.data(), 64);
                    ASSERT_EQ(bits_of(round_trip(format, x)), bits_of(x)) << value << " beside " << max;
                }
            }
        }
    }
}

TEST(KvRows, RoundedIndexerRowsComeBackBitForBit) {
    const KvRowFormat format = KvRowFormat::indexer(KvFormat::packed, 128);
    std::mt19937 random(2);
    for (int i = 0; i < 2000; ++i) {
        std::vector<float> x = random_row(random, 128);
        round_fp4(x.data(), 128);
        ASSERT_EQ(bits_of(round_trip(format, x)), bits_of(x)) << i;
    }
    const std::vector<float> zeros(128, 0.0F);
    EXPECT_EQ(bits_of(round_trip(format, zeros)), bits_of(zeros));
}

// The tail is F16: eleven significant bits.
TEST(KvRows, TailLosesLessThanTheReferencesType) {
    const KvRowFormat format = KvRowFormat::attention(KvFormat::packed, 128, 64);
    std::mt19937 random(3);
    std::normal_distribution<float> gauss;
    std::vector<float> x(128);
    for (float& v : x) v = gauss(random) * 4;
    round_fp8(x.data(), 64);
    const std::vector<float> out = round_trip(format, x);
    for (std::size_t i = 64; i < 128; ++i) EXPECT_NEAR(out[i], x[i], std::abs(x[i]) * 0x1p-11F + 0x1p-25F);
}

TEST(KvRows, OneNanSpoilsItsBlockOnly) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        std::vector<float> x(128, 2.0F);
        x[70] = bad;
        const std::vector<float> fp8 = round_trip(KvRowFormat::attention(KvFormat::packed, 128, 0), x);
        const std::vector<float> fp4 = round_trip(KvRowFormat::indexer(KvFormat::packed, 128), x);
        for (std::size_t i = 0; i < 128; ++i) {
            EXPECT_EQ(std::isnan(fp8[i]), i >= 64) << i;
            EXPECT_EQ(std::isnan(fp4[i]), i >= 64 && i < 96) << i;
        }
    }
}

TEST(KvRows, PlainFormats) {
    std::mt19937 random(4);
    const std::vector<float> x = random_row(random, 96);
    EXPECT_EQ(bits_of(round_trip(KvRowFormat::attention(KvFormat::f32, 96, 32), x)), bits_of(x));
    std::vector<float> halves = x;
    round_f16(halves.data(), halves.size());
    EXPECT_EQ(bits_of(round_trip(KvRowFormat::indexer(KvFormat::f16, 96), x)), bits_of(halves));
}

}  // namespace
}  // namespace ds4::quant
