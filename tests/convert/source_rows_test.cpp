#include "convert/source_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "convert/checkpoint_copy.h"
#include "ds4/error.h"

namespace ds4::convert {
namespace {

using testing::ElementsAre;
using testing::EndsWith;

std::vector<std::uint32_t> bits_of(std::span<const float> values) {
    std::vector<std::uint32_t> bits;
    for (const float v : values) bits.push_back(std::bit_cast<std::uint32_t>(v));
    return bits;
}

std::vector<float> floats_of(const safetensors::Tensor& tensor) {
    std::vector<float> values(tensor.elements());
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    return values;
}

// golden/formats is a checkpoint of two quantised matrices with the values they stand for.
class GoldenFormats : public testing::TestWithParam<std::string> {
  protected:
    GoldenFormats() {
        std::filesystem::copy_file(test::golden_directory("formats") / "formats.safetensors",
                                   directory_ / "model.safetensors");
    }
    test::TemporaryDirectory directory_;
};

TEST_P(GoldenFormats, DecodeToTheExpectedValues) {
    const auto checkpoint = safetensors::Checkpoint::open(directory_.path());
    const SourceRows rows(checkpoint, *checkpoint.find(GetParam() + ".weight"));
    const safetensors::Tensor& expected = *checkpoint.find(GetParam() + ".expected");
    ASSERT_THAT(expected.shape, ElementsAre(rows.n_rows(), rows.n_cols()));
    std::vector<float> values(rows.n_rows() * rows.n_cols());
    constexpr std::uint64_t kSlab = 37;  // slabs that fit neither the rows nor the tiles
    for (std::uint64_t begin = 0; begin < rows.n_rows(); begin += kSlab) {
        const std::uint64_t end = std::min(begin + kSlab, rows.n_rows());
        rows.decode(begin, end, values.data() + begin * rows.n_cols());
        rows.release(begin, end);
    }
    EXPECT_EQ(bits_of(values), bits_of(floats_of(expected)));
}

INSTANTIATE_TEST_SUITE_P(Formats, GoldenFormats, testing::Values("fp8", "fp4"));

// One tensor `x.weight`, perhaps with `x.scale`.
class SourceRowsTest : public testing::Test {
  protected:
    void add(const std::string& name, const std::string& dtype, std::vector<std::uint64_t> shape) {
        std::uint64_t n = 1;
        for (const std::uint64_t d : shape) n *= d;
        const std::size_t size = dtype == "F32"                      ? 4
                                 : dtype == "F16" || dtype == "BF16" ? 2
                                 : dtype == "I64"                    ? 8
                                                                     : 1;
        builder_.add(name, dtype, std::move(shape), std::vector<char>(n * size));
    }
    std::string error() {
        test::write_file(directory_ / "model.safetensors", builder_.bytes());
        const auto checkpoint = safetensors::Checkpoint::open(directory_.path());
        try {
            SourceRows(checkpoint, *checkpoint.find("x.weight"));
        } catch (const ModelError& e) {
            return std::string(e.what()).substr(directory_.path().string().size());
        }
        return "no error";
    }

    test::TemporaryDirectory directory_;
    test::SafetensorsBuilder builder_;
};

TEST_F(SourceRowsTest, AcceptsCutTiles) {
    add("x.weight", "F8_E4M3", {130, 100});
    add("x.scale", "F8_E8M0", {2, 1});
    EXPECT_EQ(error(), "no error");
}

TEST_F(SourceRowsTest, RefusesFp8WithoutScale) {
    add("x.weight", "F8_E4M3", {128, 128});
    EXPECT_EQ(error(), ": tensor x.weight is F8_E4M3 and has no .scale beside it");
}

TEST_F(SourceRowsTest, RefusesScaleOfWrongShape) {
    add("x.weight", "F8_E4M3", {130, 128});
    add("x.scale", "F8_E8M0", {1, 1});
    EXPECT_EQ(error(), ": tensor x.weight needs a .scale of F8_E8M0 [2, 1]");
}

TEST_F(SourceRowsTest, RefusesScaleOfWrongType) {
    add("x.weight", "I8", {4, 32});
    add("x.scale", "U8", {4, 2});
    EXPECT_EQ(error(), ": tensor x.weight needs a .scale of F8_E8M0 [4, 2]");
}

TEST_F(SourceRowsTest, RefusesCutFp4Blocks) {
    add("x.weight", "I8", {4, 20});
    add("x.scale", "F8_E8M0", {4, 1});
    EXPECT_EQ(error(), ": tensor x.weight has FP4 rows of 40, which are not whole blocks of 32");
}

TEST_F(SourceRowsTest, RefusesScaleBesideFloats) {
    add("x.weight", "BF16", {2, 2});
    add("x.scale", "F8_E8M0", {1, 1});
    EXPECT_EQ(error(), ": tensor x.weight is BF16 and has a .scale; only FP8 and FP4 are scaled");
}

TEST_F(SourceRowsTest, RefusesIntegers) {
    add("x.weight", "I64", {2, 2});
    EXPECT_EQ(error(), ": tensor x.weight has dtype I64, which holds no weights");
}

TEST_F(SourceRowsTest, RefusesStacks) {
    add("x.weight", "F32", {2, 2, 2});
    EXPECT_EQ(error(), ": tensor x.weight is neither a vector nor a matrix");
}

TEST_F(SourceRowsTest, RefusesEmptyTensors) {
    add("x.weight", "F32", {0, 2});
    EXPECT_EQ(error(), ": tensor x.weight is empty");
}

}  // namespace
}  // namespace ds4::convert
