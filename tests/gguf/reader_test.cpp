#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "gguf/gguf_builder.h"
#include "temporary_directory.h"

namespace ds4::gguf {
namespace {

using test::GgufBuilder;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(GgufReader, ReadsEveryValueType) {
    GgufBuilder b;
    b.header(0, 12);
    b.key("u8", ValueType::u8).put(std::uint8_t{200});
    b.key("i8", ValueType::i8).put(std::int8_t{100});
    b.key("u16", ValueType::u16).put(std::uint16_t{60000});
    b.key("i16", ValueType::i16).put(std::int16_t{30000});
    b.key("u32", ValueType::u32).put(std::uint32_t{4000000000});
    b.key("i32", ValueType::i32).put(std::int32_t{2000000000});
    b.key("f32", ValueType::f32).put(0.5f);
    b.key("bool", ValueType::boolean).u8(1);
    b.key("string", ValueType::string).string("a \xe2\x80\x9c string");
    b.key("u64", ValueType::u64).put(std::uint64_t{18000000000000000000u});
    b.key("i64", ValueType::i64).put(std::int64_t{9000000000000000000});
    b.key("f64", ValueType::f64).put(0.1);
    const auto bytes = test::exact_bytes(b.bytes());
    const File file = File::parse(bytes, "model.gguf");
    EXPECT_EQ(file.metadata().size(), 12u);
    EXPECT_EQ(file.find_uint("u8"), 200u);
    EXPECT_EQ(file.find_uint("i8"), 100u);
    EXPECT_EQ(file.find_uint("u16"), 60000u);
    EXPECT_EQ(file.find_uint("i16"), 30000u);
    EXPECT_EQ(file.find_uint("u32"), 4000000000u);
    EXPECT_EQ(file.find_uint("i32"), 2000000000u);
    EXPECT_EQ(file.find_uint("u64"), 18000000000000000000u);
    EXPECT_EQ(file.find_uint("i64"), 9000000000000000000u);
    EXPECT_EQ(file.find_float("f32"), 0.5);
    EXPECT_EQ(file.find_float("f64"), 0.1);
    EXPECT_EQ(file.find_bool("bool"), true);
    EXPECT_EQ(file.find_string("string"), "a \xe2\x80\x9c string");
    EXPECT_EQ(file.find_uint("absent"), std::nullopt);
    EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(GgufReader, ReadsArrays) {
    GgufBuilder b;
    b.header(0, 5);
    const auto array = [&](const char* name, ValueType item, std::uint64_t n) {
        b.key(name, ValueType::array).u32(static_cast<std::uint32_t>(item)).u64(n);
    };
    array("i16", ValueType::i16, 3);
    b.put(std::int16_t{-1}).put(std::int16_t{0}).put(std::int16_t{1});
    array("u32", ValueType::u32, 2);
    b.u32(0xffffffff).u32(0);
    array("f64", ValueType::f64, 2);
    b.put(0.1).put(-2.0);
    array("strings", ValueType::string, 3);
    b.string("").string("two").string(std::string_view("\0x", 2));
    array("empty", ValueType::string, 0);
    const auto bytes = test::exact_bytes(b.bytes());
    const File file = File::parse(bytes, "model.gguf");
    EXPECT_THAT(*file.find_int_array("i16"), ElementsAre(-1, 0, 1));
    EXPECT_THAT(*file.find_int_array("u32"), ElementsAre(0xffffffff, 0));
    EXPECT_THAT(*file.find_float_array("f64"), ElementsAre(0.1, -2.0));
    EXPECT_THAT(*file.find_string_array("strings"), ElementsAre("", "two", std::string_view("\0x", 2)));
    EXPECT_THAT(*file.find_string_array("empty"), ElementsAre());
    EXPECT_THAT(*file.find_int_array("empty"), ElementsAre()) << "an empty list has no wrong type";
    EXPECT_EQ(file.find_int_array("absent"), std::nullopt);
}

TEST(GgufReader, PlacesTensors) {
    GgufBuilder b;
    b.header(2, 1).key("general.alignment", ValueType::u32).u32(64);
    b.tensor("matrix", {32, 3, 2}, 8, 64).tensor("vector", {4}, 0, 0).data(0, 64);
    const std::size_t start = b.bytes().size();
    b.data(64 + 6 * 34, 1);
    const auto bytes = test::exact_bytes(b.bytes());
    const File file = File::parse(bytes, "model.gguf");
    EXPECT_EQ(file.alignment(), 64u);
    const Tensor& matrix = *file.find_tensor("matrix");
    EXPECT_EQ(matrix.format->type, quant::Type::q8_0);
    EXPECT_EQ(matrix.n_dims, 3);
    EXPECT_THAT(matrix.ne, ElementsAre(32, 3, 2, 1));
    EXPECT_EQ(matrix.rows(), 6u);
    EXPECT_EQ(matrix.elements(), 192u);
    EXPECT_EQ(matrix.data.size(), 6u * 34);
    EXPECT_EQ(matrix.data.data(), bytes.data() + start + 64);
    EXPECT_EQ(file.find_tensor("vector")->data.data(), bytes.data() + start);
    EXPECT_EQ(file.find_tensor("absent"), nullptr);
    EXPECT_EQ(file.tensors()[0].name, "matrix") << "file order";
}

TEST(GgufReader, MappedFileOutlivesAMove) {
    const test::TemporaryDirectory directory;
    GgufBuilder b;
    b.header(1, 0).tensor("t", {1}, 0, 0).data(0).put(2.5f);
    test::write_file(directory / "a.gguf", b.bytes());
    File first = File::open(directory / "a.gguf");
    const File second = std::move(first);
    float value = 0;
    std::memcpy(&value, second.find_tensor("t")->data.data(), sizeof value);
    EXPECT_EQ(value, 2.5f);
    EXPECT_EQ(second.path(), directory / "a.gguf");
}

TEST(GgufReader, MissingFileIsNamed) {
    try {
        File::open("/nowhere/a.gguf");
        FAIL();
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), HasSubstr("/nowhere/a.gguf"));
    }
}

}  // namespace
}  // namespace ds4::gguf
