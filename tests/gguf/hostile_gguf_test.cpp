// Files that break the format or lie: each must give one line that names the file, the thing and what is
// wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "gguf/gguf_builder.h"

namespace ds4::gguf {
namespace {

using test::GgufBuilder;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::uint32_t kF32 = 0;
constexpr std::uint32_t kF16 = 1;
constexpr std::uint32_t kQ8 = 8;
constexpr std::uint32_t kBf16 = 30;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();  // -1 as the field is read
constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;

std::string error_of(std::string_view text) {
    const auto bytes = test::exact_bytes(text);
    try {
        File::parse(bytes, "model.gguf");
    } catch (const GgufError& error) {
        return error.what();
    }
    return "no error";
}

struct HostileFile {
    std::string label;
    GgufBuilder file;
    std::string message;  // after "model.gguf: "
};
void PrintTo(const HostileFile& file, std::ostream* out) {
    *out << file.label;
}

class HostileGguf : public testing::TestWithParam<HostileFile> {};

TEST_P(HostileGguf, IsRefused) {
    const std::string expected = std::string("model.gguf: ").append(GetParam().message);
    EXPECT_EQ(error_of(GetParam().file.bytes()), expected);
}

GgufBuilder header(std::uint64_t n_tensors, std::uint64_t n_keys) {
    return GgufBuilder().header(n_tensors, n_keys);
}
GgufBuilder key(std::string_view name, ValueType type) {
    return header(0, 1).key(name, type);
}
GgufBuilder array(ValueType item, std::uint64_t count) {
    return key("k", ValueType::array).u32(static_cast<std::uint32_t>(item)).u64(count);
}
GgufBuilder tensor(std::initializer_list<std::uint64_t> ne, std::uint32_t type, std::uint64_t offset = 0) {
    return header(1, 0).tensor("t", ne, type, offset).data(256);
}
GgufBuilder two_tensors(std::uint64_t rows_a, std::uint64_t offset_b, std::uint32_t type_b) {
    const std::uint64_t ne_a[] = {8, rows_a};
    return header(2, 0).tensor("a", ne_a, kF32, 0).tensor("b", {8, 2}, type_b, offset_b).data(4096);
}
GgufBuilder alignment(std::uint32_t value) {
    return key("general.alignment", ValueType::u32).u32(value);
}

INSTANTIATE_TEST_SUITE_P(
    Header, HostileGguf,
    testing::Values(
        HostileFile{"Empty", {}, "not a GGUF file: it has only 0 bytes"},
        HostileFile{"BadMagic", GgufBuilder().raw("GGML").u32(3),
                    "not a GGUF file: it does not start with 'GGUF'"},
        HostileFile{"Version2", GgufBuilder().raw("GGUF").u32(2).u64(0).u64(0),
                    "GGUF version 2, only 3 is supported"},
        HostileFile{"BigEndian", GgufBuilder().raw("GGUF").u32(0x03000000).u64(0).u64(0),
                    "a big-endian GGUF file; convert it to little-endian"},
        HostileFile{"ManyTensors", header(1000, 0).data(100),
                    "the header counts 1000 tensors, the file has no room for them"},
        HostileFile{"NegativeTensors", header(kHuge, 0),
                    "the header counts 18446744073709551615 tensors, the file has no room for them"},
        HostileFile{"SignBitTensors", header(kSignBit, 0).data(100),
                    "the header counts 9223372036854775808 tensors, the file has no room for them"},
        HostileFile{"ManyKeys", header(0, 1u << 30).data(100),
                    "the header counts 1073741824 keys, the file has no room for them"},
        HostileFile{"NegativeKeys", header(0, kHuge).data(100),
                    "the header counts 18446744073709551615 keys, the file has no room for them"},
        HostileFile{"SignBitKeys", header(0, kSignBit).data(100),
                    "the header counts 9223372036854775808 keys, the file has no room for them"},
        HostileFile{"MoreKeysThanAllowed", header(0, 65537).data(65537 * 13),
                    "the header counts 65537 keys, at most 65536 are allowed"},
        HostileFile{"MoreTensorsThanAllowed", header((1u << 20) + 1, 0).data(((1u << 20) + 1) * 32),
                    "the header counts 1048577 tensors, at most 1048576 are allowed"}),
    [](const auto& test_info) { return test_info.param.label; });

INSTANTIATE_TEST_SUITE_P(
    Keys, HostileGguf,
    testing::Values(HostileFile{"NameTooLong", header(0, 1).u64(1000).raw("abc").data(20),
                                "key 0: truncated, or its name is longer than the rest of the file"},
                    HostileFile{"NameLengthOverflows", header(0, 1).u64(kHuge).data(20),
                                "key 0: truncated, or its name is longer than the rest of the file"},
                    HostileFile{"EmptyName", header(0, 1).string("").data(20), "key 0: its name is empty"},
                    HostileFile{"LongName", header(0, 1).string(std::string(70000, 'x')),
                                "key 0: its name has 70000 bytes, at most 65535 are allowed"},
                    HostileFile{"UnknownType", key("k", static_cast<ValueType>(13)).u64(0),
                                "key k has the unknown value type 13"},
                    HostileFile{"NegativeType", key("k", static_cast<ValueType>(0xffffffff)).u64(0),
                                "key k has the unknown value type 4294967295"},
                    HostileFile{"StringTooLong", key("k", ValueType::string).u64(5).raw("four"),
                                "key k: the string is longer than the rest of the file"},
                    HostileFile{"StringLengthOverflows", key("k", ValueType::string).u64(kHuge),
                                "key k: the string is longer than the rest of the file"},
                    HostileFile{"TruncatedValue", key("k", ValueType::u64).u32(0), "key k: truncated"},
                    HostileFile{"BoolOf2", key("k", ValueType::boolean).u8(2),
                                "key k has a bool that is neither 0 nor 1"},
                    HostileFile{"Twice",
                                header(0, 2).key("k", ValueType::u8).u8(1).key("k", ValueType::u8).u8(1),
                                "key k stands twice"},
                    HostileFile{"NameOfBytes", key("a\n\xff\x1b[31m", static_cast<ValueType>(99)).u64(0),
                                "key a\\x0a\\xff\\x1b[31m has the unknown value type 99"}),
    [](const auto& test_info) { return test_info.param.label; });

INSTANTIATE_TEST_SUITE_P(
    Arrays, HostileGguf,
    testing::Values(
        HostileFile{"TooLong", array(ValueType::u32, 5).u64(0).u64(0),
                    "key k: an array of 5 items is longer than the rest of the file"},
        // 8 * 2^61 items = 0 bytes modulo 2^64
        HostileFile{"SizeOverflows", array(ValueType::u64, std::uint64_t{1} << 61),
                    "key k: an array of 2305843009213693952 items; all arrays together may have 16777216"},
        HostileFile{"NegativeCount", array(ValueType::u8, kHuge),
                    "key k: an array of 18446744073709551615 items; all arrays together may have 16777216"},
        HostileFile{"ManyStrings", array(ValueType::string, 1u << 24).string("a"),
                    "key k: string 1 of 16777216 is longer than the rest of the file"},
        HostileFile{"StringTooLong", array(ValueType::string, 2).string("a").u64(9).raw("b"),
                    "key k: string 1 of 2 is longer than the rest of the file"},
        HostileFile{"Nested", array(ValueType::array, 1).u32(4).u64(0),
                    "key k is an array of arrays, which no key of this model is"},
        HostileFile{"UnknownItem", array(static_cast<ValueType>(77), 1),
                    "key k has the unknown value type 77"},
        // The counts of all arrays are added up.
        HostileFile{"CountsAddUp",
                    header(0, 2)
                        .key("a", ValueType::array)
                        .u32(0)
                        .u64(1)
                        .u8(0)
                        .key("k", ValueType::array)
                        .u32(0)
                        .u64(1u << 24)
                        .data(100),
                    "key k: an array of 16777216 items; all arrays together may have 16777216"},
        HostileFile{"BoolOf255", array(ValueType::boolean, 3).u8(0).u8(1).u8(255),
                    "key k has a bool that is neither 0 nor 1"}),
    [](const auto& test_info) { return test_info.param.label; });

INSTANTIATE_TEST_SUITE_P(
    Alignment, HostileGguf,
    testing::Values(HostileFile{"Zero", alignment(0),
                                "key general.alignment is 0, it must be a power of two from 8 to 65536"},
                    HostileFile{"One", alignment(1),
                                "key general.alignment is 1, it must be a power of two from 8 to 65536"},
                    HostileFile{"NoPowerOfTwo", alignment(48),
                                "key general.alignment is 48, it must be a power of two from 8 to 65536"},
                    HostileFile{
                        "Gigabyte", alignment(1u << 30),
                        "key general.alignment is 1073741824, it must be a power of two from 8 to 65536"},
                    HostileFile{"WrongType", key("general.alignment", ValueType::u64).u64(32),
                                "key general.alignment must be u32, it is u64"},
                    HostileFile{"String", key("general.alignment", ValueType::string).string("32"),
                                "key general.alignment must be u32, it is string"}),
    [](const auto& test_info) { return test_info.param.label; });

INSTANTIATE_TEST_SUITE_P(
    Tensors, HostileGguf,
    testing::Values(
        HostileFile{"NameTooLong", header(1, 0).u64(1u << 20).data(64),
                    "tensor 0: truncated, or its name is longer than the rest of the file"},
        HostileFile{"EmptyName", header(1, 0).tensor("", {8}, kF32, 0).data(64),
                    "tensor 0: its name is empty"},
        HostileFile{"NameOfBytes", header(1, 0).tensor("a\n\xff\x1b[31m", {8}, 31, 0).data(64),
                    "tensor a\\x0a\\xff\\x1b[31m has the type 31, which ds4 does not know"},
        HostileFile{"NoDimensions", tensor({}, kF32), "tensor t has 0 dimensions, it must be 1 to 4"},
        HostileFile{"FiveDimensions", tensor({1, 1, 1, 1, 1}, kF32),
                    "tensor t has 5 dimensions, it must be 1 to 4"},
        HostileFile{"ManyDimensions", header(1, 0).string("t").u32(0xffffffff).data(64),
                    "tensor t has 4294967295 dimensions, it must be 1 to 4"},
        HostileFile{"DimensionOf0", tensor({8, 0}, kF32), "tensor t has a dimension of 0"},
        HostileFile{"ProductOverflows", tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, kF32),
                    "tensor t: the product of its dimensions overflows"},
        HostileFile{"ProductOfFourOverflows", tensor({8, 1u << 31, 1u << 31, 3}, kF32),
                    "tensor t: the product of its dimensions overflows"},
        HostileFile{"BytesOverflow", tensor({std::uint64_t{1} << 62}, kF32), "tensor t: its size overflows"},
        HostileFile{"NegativeDimension", tensor({kHuge}, kF16), "tensor t: its size overflows"},
        HostileFile{"UnknownType", tensor({8}, 31), "tensor t has the type 31, which ds4 does not know"},
        HostileFile{"NegativeType", tensor({8}, 0xffffffff),
                    "tensor t has the type 4294967295, which ds4 does not know"},
        HostileFile{"CutBlock", tensor({40}, kQ8), "tensor t: rows of 40 are not whole blocks of Q8_0 (32)"},
        HostileFile{"Misaligned", tensor({8}, kF32, 4),
                    "tensor t: offset 4 is not a multiple of the alignment 32"},
        HostileFile{"BeyondTheEnd", tensor({8, 9}, kF32),
                    "tensor t: its 288 bytes at offset 0 reach beyond the end of the file; it is truncated "
                    "or broken"},
        HostileFile{"OffsetBeyondTheEnd", tensor({8}, kF32, std::uint64_t{1} << 40),
                    "tensor t: its 32 bytes at offset 1099511627776 reach beyond the end of the file; it is "
                    "truncated or broken"},
        HostileFile{
            "OffsetOverflows", tensor({8}, kF32, kHuge - 31),
            "tensor t: its 32 bytes at offset 18446744073709551584 reach beyond the end of the file; it is "
            "truncated or broken"},
        HostileFile{"Twice", header(2, 0).tensor("t", {8}, kF32, 0).tensor("t", {8}, kF32, 32).data(64),
                    "tensor t stands twice"},
        HostileFile{"Overlap", two_tensors(2, 32, kF32), "tensors a and b overlap"},
        HostileFile{"OverlapInside", two_tensors(100, 320, kF32), "tensors a and b overlap"},
        HostileFile{"SameBytesOtherType",
                    header(2, 0).tensor("a", {8}, kF16, 0).tensor("b", {8}, kBf16, 0).data(32),
                    "tensors a and b overlap"},
        HostileFile{"SameBytesOtherShape", two_tensors(1, 0, kF16), "tensors a and b overlap"},
        HostileFile{"SameStartOtherShape", two_tensors(3, 0, kF32), "tensors b and a overlap"}),
    [](const auto& test_info) { return test_info.param.label; });

// One key of every kind, one tensor: short, but every branch of the reader runs.
std::string small_file() {
    GgufBuilder file = header(2, 5);
    file.key("general.alignment", ValueType::u32).u32(32);
    file.key("name", ValueType::string).string("small");
    file.key("flag", ValueType::boolean).u8(1);
    file.key("list", ValueType::array).u32(static_cast<std::uint32_t>(ValueType::i32)).u64(2).u32(1).u32(2);
    file.key("words", ValueType::array).u32(static_cast<std::uint32_t>(ValueType::string)).u64(2);
    file.string("one").string("two");
    file.tensor("a", {32, 2}, kQ8, 0).tensor("b", {4}, kF32, 96).data(112);
    return file.bytes();
}

TEST(TruncatedGguf, IsRefusedAtEveryByte) {
    const std::string whole = small_file();
    ASSERT_EQ(error_of(whole), "no error");
    for (std::size_t n = 0; n < whole.size(); ++n) {
        const std::string error = error_of(std::string_view(whole).substr(0, n));
        ASSERT_THAT(error, StartsWith("model.gguf: ")) << n;
        ASSERT_THAT(error, Not(HasSubstr("\n"))) << n;
    }
}

TEST(TrailingGguf, BytesBehindTheDataAreIgnored) {
    EXPECT_EQ(error_of(small_file() + '\xff'), "no error");
    EXPECT_EQ(error_of(small_file() + std::string(1000, '\xff')), "no error");
}

TEST(DamagedGguf, GivesOneLineWhateverByteChanges) {
    const std::string whole = small_file();
    for (std::size_t i = 0; i < whole.size(); ++i) {
        for (const unsigned value : {0x00u, 0x01u, 0x7fu, 0x80u, 0xffu}) {
            std::string damaged = whole;
            damaged[i] = static_cast<char>(value);
            ASSERT_THAT(error_of(damaged), AllOf(Not(HasSubstr("\n")), Not(EndsWith(" ")))) << i;
        }
    }
}

TEST(AliasedGguf, SameBytesTypeAndShapeAreAllowed) {
    const auto bytes = test::exact_bytes(header(3, 0)
                                             .tensor("a", {8, 2}, kF32, 0)
                                             .tensor("b", {8, 2}, kF32, 0)
                                             .tensor("c", {8}, kF32, 64)
                                             .data(96)
                                             .bytes());
    const File file = File::parse(bytes, "model.gguf");
    EXPECT_EQ(file.find_tensor("a")->data.data(), file.find_tensor("b")->data.data());
    EXPECT_NE(file.find_tensor("a")->data.data(), file.find_tensor("c")->data.data());
}

// Linear time: a reader that compares every pair needs minutes for this.
TEST(LargeDirectory, IsReadInLinearTime) {
    constexpr std::uint64_t kTensors = 200'000;
    GgufBuilder file = header(kTensors, 0);
    for (std::uint64_t i = 0; i < kTensors; ++i) file.tensor(std::to_string(i), {1}, kF32, i * 32);
    file.data(kTensors * 32);
    EXPECT_EQ(error_of(file.bytes()), "no error");
}

TEST(LargeDirectory, MayHaveTheMostKeysThatAreAllowed) {
    constexpr std::uint64_t kKeys = 65536;
    GgufBuilder builder = header(0, kKeys);
    for (std::uint64_t i = 0; i < kKeys; ++i) builder.key(std::to_string(i), ValueType::u64).u64(i);
    const auto bytes = test::exact_bytes(builder.bytes());
    const File file = File::parse(bytes, "model.gguf");
    for (std::uint64_t i = 0; i < kKeys; ++i) ASSERT_EQ(file.find_uint(std::to_string(i)), i);
}

// A key that is there with another type, for each accessor.
class WrongTypes : public testing::Test {
  protected:
    WrongTypes() {
        builder_.header(0, 6);
        builder_.key("text", ValueType::string).string("x");
        builder_.key("negative", ValueType::i32).u32(0xffffffff);
        builder_.key("float", ValueType::f32).put(1.5f);
        builder_.key("floats", ValueType::array)
            .u32(static_cast<std::uint32_t>(ValueType::f32))
            .u64(1)
            .put(1.5f);
        builder_.key("words", ValueType::array)
            .u32(static_cast<std::uint32_t>(ValueType::string))
            .u64(1)
            .string("x");
        builder_.key("large", ValueType::array)
            .u32(static_cast<std::uint32_t>(ValueType::u64))
            .u64(1)
            .u64(kHuge);
    }
    std::string error_of(const std::function<void(const File&)>& access) const {
        const auto bytes = test::exact_bytes(builder_.bytes());
        const File file = File::parse(bytes, "model.gguf");
        try {
            access(file);
        } catch (const GgufError& error) {
            return error.what();
        }
        return "no error";
    }

  private:
    GgufBuilder builder_;
};

TEST_F(WrongTypes, AreNamed) {
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_uint("text"); }),
              "model.gguf: key text must be an unsigned integer, it is string");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_uint("negative"); }),
              "model.gguf: key negative is negative: -1");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_float("negative"); }),
              "model.gguf: key negative must be a float, it is i32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_uint("floats"); }),
              "model.gguf: key floats must be an unsigned integer, it is array of f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_float("floats"); }),
              "model.gguf: key floats must be a float, it is array of f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_bool("float"); }),
              "model.gguf: key float must be a bool, it is f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_string("floats"); }),
              "model.gguf: key floats must be a string, it is array of f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_int_array("floats"); }),
              "model.gguf: key floats must be an array of integers, it is array of f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_int_array("words"); }),
              "model.gguf: key words must be an array of integers, it is array of string");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_int_array("text"); }),
              "model.gguf: key text must be an array of integers, it is string");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_float_array("words"); }),
              "model.gguf: key words must be an array of floats, it is array of string");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_float_array("float"); }),
              "model.gguf: key float must be an array of floats, it is f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_string_array("text"); }),
              "model.gguf: key text must be an array of strings, it is string");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_string_array("floats"); }),
              "model.gguf: key floats must be an array of strings, it is array of f32");
    EXPECT_EQ(error_of([](const File& f) { (void)f.find_int_array("large"); }),
              "model.gguf: key large has an integer that does not fit 64 signed bits");
}

}  // namespace
}  // namespace ds4::gguf
