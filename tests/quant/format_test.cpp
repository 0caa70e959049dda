#include "quant/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "quant/float_bits.h"
#include "quant/golden.h"
#include "quant/iq2_xxs.h"

namespace ds4::quant {
namespace {

using test::bits_of;
using test::read_golden;
using test::read_golden_floats;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::size_t kGoldenValues = 16384;
constexpr std::size_t kGaussValues = 8192;  // the first half was quantised from gauss.f32.bin

std::vector<std::byte> encode(Type type, const std::vector<float>& values) {
    const Format& f = format(type);
    std::vector<std::byte> blocks(row_bytes(f, values.size()));
    f.encode(values.data(), blocks.data(), values.size());
    return blocks;
}

std::vector<float> decode(Type type, const std::vector<std::byte>& blocks) {
    const Format& f = format(type);
    std::vector<float> values(blocks.size() / f.block_bytes * f.block_elems);
    f.decode(blocks.data(), values.data(), values.size());
    return values;
}

TEST(Registry, SizesAndIdsAreGgmls) {
    struct Row {
        std::uint32_t id;
        std::string_view name;
        std::size_t elems, bytes;
    };
    const Row rows[] = {{0, "F32", 1, 4},      {1, "F16", 1, 2},       {8, "Q8_0", 32, 34},
                        {10, "Q2_K", 256, 84}, {12, "Q4_K", 256, 144}, {16, "IQ2_XXS", 256, 66},
                        {26, "I32", 1, 4},     {30, "BF16", 1, 2},     {39, "MXFP4", 32, 17}};
    ASSERT_EQ(formats().size(), std::size(rows));
    for (std::size_t i = 0; i < std::size(rows); ++i) {
        const Format& f = formats()[i];
        EXPECT_EQ(static_cast<std::uint32_t>(f.type), rows[i].id);
        EXPECT_EQ(f.name, rows[i].name);
        EXPECT_EQ(f.block_elems, rows[i].elems);
        EXPECT_EQ(f.block_bytes, rows[i].bytes);
        EXPECT_EQ(find_format(rows[i].id), &f);
        EXPECT_EQ(&format(f.type), &f);
    }
    EXPECT_EQ(find_format(2), nullptr);  // Q4_0: a ggml type that ds4 does not read
    EXPECT_EQ(find_format(0xffffffff), nullptr);
    EXPECT_EQ(row_bytes(format(Type::q4_k), 4096), 16u * 144u);
}

using TypeAndName = std::pair<Type, const char*>;  // name: of the golden files

std::string name_of_param(const testing::TestParamInfo<TypeAndName>& param) {
    return param.param.second;
}

class GoldenDecode : public testing::TestWithParam<TypeAndName> {};

// Random bits under ordinary and edge scales, every grid row, sign index and sub-block scale included.
TEST_P(GoldenDecode, BitExact) {
    const auto [type, name] = GetParam();
    const auto blocks = read_golden(std::string("quant/") + name + ".blocks.bin");
    const auto expected = read_golden_floats(std::string("quant/") + name + ".f32.bin");
    ASSERT_EQ(expected.size(), kGoldenValues);
    EXPECT_EQ(bits_of(decode(type, blocks)), bits_of(expected));
}

// Rows lie in a mapped file at any byte.
TEST_P(GoldenDecode, FromUnalignedBlocks) {
    const auto [type, name] = GetParam();
    auto blocks = read_golden(std::string("quant/") + name + ".blocks.bin");
    const auto expected = decode(type, blocks);
    blocks.insert(blocks.begin(), std::byte{});
    std::vector<float> values(expected.size());
    format(type).decode(blocks.data() + 1, values.data(), values.size());
    EXPECT_EQ(bits_of(values), bits_of(expected));
}

INSTANTIATE_TEST_SUITE_P(Formats, GoldenDecode,
                         testing::Values(TypeAndName{Type::f16, "f16"}, TypeAndName{Type::bf16, "bf16"},
                                         TypeAndName{Type::q8_0, "q8_0"}, TypeAndName{Type::q2_k, "q2_k"},
                                         TypeAndName{Type::q4_k, "q4_k"},
                                         TypeAndName{Type::iq2_xxs, "iq2_xxs"},
                                         TypeAndName{Type::mxfp4, "mxfp4"}),
                         name_of_param);

class GoldenEncode : public testing::TestWithParam<TypeAndName> {};

TEST_P(GoldenEncode, GaussianByteForByte) {
    const auto [type, name] = GetParam();
    auto expected = read_golden(std::string("quant/") + name + ".blocks.bin");
    expected.resize(row_bytes(format(type), kGaussValues));
    EXPECT_EQ(encode(type, read_golden_floats("quant/gauss.f32.bin")), expected);
}

INSTANTIATE_TEST_SUITE_P(Formats, GoldenEncode,
                         testing::Values(TypeAndName{Type::f16, "f16"}, TypeAndName{Type::bf16, "bf16"},
                                         TypeAndName{Type::q8_0, "q8_0"}),
                         name_of_param);

TEST(F32, RoundTripIsExact) {
    const std::vector<float> values{0.0f, -0.0f, 1.5f, kInf, std::numeric_limits<float>::denorm_min(), kNan};
    EXPECT_EQ(bits_of(decode(Type::f32, encode(Type::f32, values))), bits_of(values));
}

TEST(Q8_0, ZeroBlockIsAllZeroBytes) {
    EXPECT_THAT(encode(Type::q8_0, std::vector<float>(32, 0.0f)), testing::Each(std::byte{}));
}

TEST(Q8_0, TinyValuesBecomeZeroes) {
    // amax / 127 is subnormal and has no finite reciprocal.
    EXPECT_THAT(encode(Type::q8_0, std::vector<float>(32, 1e-38f)), testing::Each(std::byte{}));
}

TEST(Q8_0, ValuesWithoutAnF16ScaleGiveABlockThatIsReported) {
    const Format& f = format(Type::q8_0);
    for (const float bad : {kNan, kInf, -kInf, 1e7f}) {
        std::vector<float> values(96, 0.25f);
        values[40] = bad;
        EXPECT_EQ(f.find_bad_scale(encode(Type::q8_0, values).data(), 3), 1u) << bad;
    }
    std::vector<float> large(32, 65504.0f * 127.0f);
    EXPECT_EQ(f.find_bad_scale(encode(Type::q8_0, large).data(), 1), 1u);
}

TEST(Iq2xxs, CodebookInvariants) {
    std::set<std::uint64_t> rows;
    std::uint64_t previous = 0;
    for (const std::uint64_t row : kIq2xxsGrid) {
        EXPECT_GT(row, previous);  // ascending, element 7 most significant
        previous = row;
        int odd = 0;
        for (int j = 0; j < 8; ++j) {
            const auto magnitude = (row >> (8 * j)) & 255;
            EXPECT_TRUE(magnitude == 8 || magnitude == 25 || magnitude == 43);
            odd += magnitude == 25;
        }
        EXPECT_EQ(odd % 2, 0);
    }
    EXPECT_EQ(kIq2xxsGrid[1], 0x080808080808082bu);
}

TEST(Iq2xxs, SignsAreEven) {
    for (std::uint32_t i = 0; i < 128; ++i) {
        EXPECT_EQ(iq2xxs_signs(i) & 127, i);
        EXPECT_EQ(std::popcount(iq2xxs_signs(i)) % 2, 0);
    }
}

struct ScaleField {
    Type type;
    std::size_t offset;  // of the scale in its block
    std::vector<std::uint8_t> nan, infinity, good;
};

TEST(FindBadScale, FirstBadBlockOfEachField) {
    const std::vector<std::uint8_t> f16_nan{0x01, 0x7c}, f16_inf{0x00, 0xfc}, f16_max{0xff, 0x7b};
    const ScaleField fields[] = {
        {Type::f32, 0, {0x01, 0x00, 0x80, 0x7f}, {0x00, 0x00, 0x80, 0xff}, {0xff, 0xff, 0x7f, 0x7f}},
        {Type::f16, 0, f16_nan, f16_inf, f16_max},
        {Type::bf16, 0, {0x81, 0x7f}, {0x80, 0xff}, {0x7f, 0x7f}},
        {Type::q8_0, 0, f16_nan, f16_inf, f16_max},
        {Type::q2_k, 80, f16_nan, f16_inf, f16_max},
        {Type::q2_k, 82, f16_nan, f16_inf, f16_max},
        {Type::q4_k, 0, f16_nan, f16_inf, f16_max},
        {Type::q4_k, 2, f16_nan, f16_inf, f16_max},
        {Type::iq2_xxs, 0, f16_nan, f16_inf, f16_max},
        {Type::mxfp4, 0, {255}, {255}, {254}},
    };
    for (const ScaleField& field : fields) {
        const Format& f = format(field.type);
        const auto find_with = [&](const std::vector<std::uint8_t>& bytes) {
            std::vector<std::byte> blocks(5 * f.block_bytes);
            for (const std::size_t block : {2u, 4u}) {
                std::memcpy(&blocks[block * f.block_bytes + field.offset], bytes.data(), bytes.size());
            }
            return f.find_bad_scale(blocks.data(), 5);
        };
        EXPECT_EQ(find_with(field.nan), 2u) << f.name << " at " << field.offset;
        EXPECT_EQ(find_with(field.infinity), 2u) << f.name << " at " << field.offset;
        EXPECT_EQ(find_with(field.good), 5u) << f.name << " at " << field.offset;
    }
    EXPECT_EQ(format(Type::i32).find_bad_scale, nullptr);
}

}  // namespace
}  // namespace ds4::quant
