#include "quant/checkpoint_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "quant/float_bits.h"
#include "quant/format.h"
#include "quant/golden.h"

namespace ds4::quant {
namespace {

using test::bits_of;

// golden/formats/formats.safetensors, by tensor name.
class GoldenCheckpoint : public testing::Test {
  protected:
    std::vector<std::byte> tensor(const std::string& name) const {
        const auto& offsets = header_.at(name).at("data_offsets");
        const auto at = [&](std::size_t i) {
            return file_.begin() + static_cast<std::ptrdiff_t>(data_ + offsets.at(i).get<std::size_t>());
        };
        return {at(0), at(1)};
    }

  private:
    std::vector<std::byte> file_ = test::read_golden("formats/formats.safetensors");
    std::size_t data_ = 8 + load<std::uint64_t>(file_.data());
    nlohmann::json header_ = nlohmann::json::parse(reinterpret_cast<const char*>(file_.data()) + 8,
                                                   reinterpret_cast<const char*>(file_.data()) + data_);
};

TEST_F(GoldenCheckpoint, Fp8) {
    const auto weight = tensor("fp8.weight"), scale = tensor("fp8.scale");
    const auto expected = test::to_floats(tensor("fp8.expected"));
    const Fp8Matrix matrix{weight.data(), scale.data(), 256, 384};
    std::vector<float> values(256 * 384);
    decode_fp8_rows(matrix, 0, 256, values.data());
    EXPECT_EQ(bits_of(values), bits_of(expected));

    std::vector<float> range(20 * 384);  // across the border of two tiles
    decode_fp8_rows(matrix, 120, 140, range.data());
    EXPECT_EQ(bits_of(range), bits_of({expected.begin() + 120 * 384, expected.begin() + 140 * 384}));
}

TEST_F(GoldenCheckpoint, Fp4) {
    const auto weight = tensor("fp4.weight"), scale = tensor("fp4.scale");
    const auto expected = test::to_floats(tensor("fp4.expected"));
    const Fp4Matrix matrix{weight.data(), scale.data(), 64, 256};
    std::vector<float> values(64 * 256);
    decode_fp4_rows(matrix, 0, 64, values.data());
    EXPECT_EQ(bits_of(values), bits_of(expected));

    std::vector<float> range(3 * 256);
    decode_fp4_rows(matrix, 7, 10, range.data());
    EXPECT_EQ(bits_of(range), bits_of({expected.begin() + 7 * 256, expected.begin() + 10 * 256}));
}

TEST_F(GoldenCheckpoint, RepackedFp4HasTheSameValues) {
    const auto weight = tensor("fp4.weight"), scale = tensor("fp4.scale");
    const auto expected = test::to_floats(tensor("fp4.expected"));
    const Fp4Matrix matrix{weight.data(), scale.data(), 64, 256};
    const Format& mxfp4 = format(Type::mxfp4);
    std::vector<std::byte> blocks(60 * row_bytes(mxfp4, 256));
    repack_fp4_rows(matrix, 2, 62, blocks.data());
    std::vector<float> values(60 * 256);
    mxfp4.decode(blocks.data(), values.data(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(values[i], expected[i + 2 * 256]) << i;  // by value: MXFP4 decodes -0 as +0
    }
}

TEST(E4m3, EveryCodeByDefinition) {
    for (int code = 0; code < 256; ++code) {
        const int exponent = (code >> 3) & 15;
        const int mantissa = code & 7;
        float expected = static_cast<float>(exponent == 0 ? std::ldexp(mantissa, -9)
                                                          : std::ldexp(8 + mantissa, exponent - 10));
        if (code & 0x80) expected = -expected;
        if ((code & 0x7f) == 0x7f) expected = 0;
        const float value = e4m3_to_f32(static_cast<std::uint8_t>(code));
        EXPECT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected)) << code;
    }
}

TEST(Fp8, CutTilesAtTheEdges) {
    constexpr std::size_t kRows = 130, kCols = 200;
    const std::vector<std::byte> weight(kRows * kCols, std::byte{0x38});  // 1.0
    const std::vector<std::byte> scale{std::byte{127}, std::byte{128}, std::byte{129}, std::byte{255}};
    std::vector<float> values(kRows * kCols);
    decode_fp8_rows({weight.data(), scale.data(), kRows, kCols}, 0, kRows, values.data());
    EXPECT_EQ(values[127 * kCols + 127], 1.0f);
    EXPECT_EQ(values[127 * kCols + 128], 2.0f);
    EXPECT_EQ(values[128 * kCols + 127], 4.0f);
    EXPECT_TRUE(std::isnan(values[128 * kCols + 128]));
    EXPECT_TRUE(std::isnan(values[kRows * kCols - 1]));
}

TEST(Fp4, NanScaleIsReportedAfterRepacking) {
    const std::vector<std::byte> weight(2 * 32),
        scale{std::byte{120}, std::byte{1}, std::byte{255}, std::byte{2}};
    std::vector<std::byte> blocks(4 * 17);
    repack_fp4_rows({weight.data(), scale.data(), 2, 64}, 0, 2, blocks.data());
    EXPECT_EQ(format(Type::mxfp4).find_bad_scale(blocks.data(), 4), 2u);
}

}  // namespace
}  // namespace ds4::quant
