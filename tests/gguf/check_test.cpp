#include "gguf/check.h"

#include <gtest/gtest.h>

#include "ds4/error.h"
#include "gguf/gguf_builder.h"

namespace ds4::gguf {
namespace {

using test::GgufBuilder;

constexpr std::size_t kBlocks = 3;  // of each tensor

// A scale (or value) within a block, and encodings of it that are infinite, no number, and the largest.
struct ScaleField {
    quant::Type type;
    std::size_t offset;
    std::vector<std::uint8_t> infinite;
    std::vector<std::uint8_t> nan;
    std::vector<std::uint8_t> largest;
};

std::vector<ScaleField> scale_fields() {
    using enum quant::Type;
    const std::vector<std::uint8_t> inf{0x00, 0xfc};
    const std::vector<std::uint8_t> nan{0x00, 0x7e};
    const std::vector<std::uint8_t> max{0xff, 0x7b};
    return {
        {f32, 0, {0, 0, 0x80, 0x7f}, {0, 0, 0xc0, 0xff}, {0xff, 0xff, 0x7f, 0x7f}},
        {f16, 0, inf, nan, max},
        {bf16, 0, {0x80, 0x7f}, {0xc0, 0x7f}, {0x7f, 0x7f}},
        {q8_0, 0, inf, nan, max},
        {q2_k, 80, inf, nan, max},
        {q2_k, 82, inf, nan, max},
        {q4_k, 0, inf, nan, max},
        {q4_k, 2, inf, nan, max},
        {iq2_xxs, 0, inf, nan, max},
        {mxfp4, 0, {255}, {255}, {254}},
    };
}

std::string check(std::string_view text) {
    const auto bytes = test::exact_bytes(text);
    const File file = File::parse(bytes, "model.gguf");
    try {
        check_values(file, {});
    } catch (const GgufError& error) {
        return error.what();
    }
    return "no error";
}

// Two tensors of zeros; `bytes` stand in one block of the second.
std::string with(const ScaleField& field, std::size_t block, const std::vector<std::uint8_t>& bytes) {
    const quant::Format& format = quant::format(field.type);
    const auto type = static_cast<std::uint32_t>(field.type);
    const std::size_t size = kBlocks * format.block_bytes;
    const std::uint64_t second = (size + 31) / 32 * 32;
    GgufBuilder b;
    b.header(2, 0).tensor("good", {format.block_elems, kBlocks}, type, 0);
    b.tensor("bad", {format.block_elems, kBlocks}, type, second).data(second + size);
    std::string file = b.bytes();
    const std::size_t at = file.size() - size + block * format.block_bytes + field.offset;
    for (std::size_t i = 0; i < bytes.size(); ++i) file[at + i] = static_cast<char>(bytes[i]);
    return file;
}

TEST(CheckValues, NamesTensorFormatAndBlock) {
    for (const ScaleField& field : scale_fields()) {
        for (std::size_t block = 0; block < kBlocks; ++block) {
            const std::string expected =
                std::string("model.gguf: tensor bad: ")
                    .append(quant::format(field.type).name)
                    .append(" block ")
                    .append(std::to_string(block))
                    .append(" has a NaN or infinite scale or value; the file is damaged");
            EXPECT_EQ(check(with(field, block, field.infinite)), expected) << field.offset;
            EXPECT_EQ(check(with(field, block, field.nan)), expected) << field.offset;
            EXPECT_EQ(check(with(field, block, field.largest)), "no error") << field.offset;
        }
    }
}

// Every bit pattern of an integer is fine.
TEST(CheckValues, LeavesIntegersAlone) {
    const ScaleField integers{quant::Type::i32, 0, {}, {}, {0xff, 0xff, 0xff, 0xff}};
    EXPECT_EQ(check(with(integers, 1, integers.largest)), "no error");
}

// Tensors are read in pieces of 65,536 blocks; the number of a block counts from the start of the tensor.
TEST(CheckValues, CountsBlocksOverTheWholeTensor) {
    constexpr std::uint64_t kValues = 70'000;
    GgufBuilder b;
    b.header(1, 0).tensor("t", {kValues}, 0, 0).data((kValues - 1) * sizeof(float)).u32(0x7f800000);
    EXPECT_EQ(
        check(b.bytes()),
        "model.gguf: tensor t: F32 block 69999 has a NaN or infinite scale or value; the file is damaged");
}

TEST(CheckValues, ReadsTheBytesOfAnAliasOnce) {
    GgufBuilder b;
    b.header(3, 0).tensor("a", {8}, 0, 0).tensor("alias", {8}, 0, 0).tensor("b", {4}, 0, 32).data(48);
    const auto bytes = test::exact_bytes(b.bytes());
    std::vector<std::uint64_t> reports;
    check_values(File::parse(bytes, "model.gguf"), [&](std::uint64_t n) { reports.push_back(n); });
    EXPECT_EQ(reports, (std::vector<std::uint64_t>{32, 48}));
}

}  // namespace
}  // namespace ds4::gguf
