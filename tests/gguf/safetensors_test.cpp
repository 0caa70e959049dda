#include "gguf/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ds4/error.h"
#include "gguf/gguf_builder.h"
#include "gguf/safetensors_builder.h"
#include "temporary_directory.h"

namespace ds4::safetensors {
namespace {

using test::safetensors_bytes;
using test::SafetensorsBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::string error_of(std::string_view text) {
    const auto bytes = test::exact_bytes(text);
    try {
        File::parse(bytes, "m.safetensors");
    } catch (const SafetensorsError& error) {
        return error.what();
    }
    return "no error";
}

std::string small_file() {
    SafetensorsBuilder b;
    b.add("b", "BF16", {2, 3}, std::vector<std::uint16_t>{1, 2, 3, 4, 5, 6});
    b.add("a", "F32", {}, std::vector<float>{2.5f});
    b.add("none", "I64", {0, 4}, std::vector<std::int64_t>{});
    return b.bytes();
}

TEST(Safetensors, ReadsTensors) {
    const auto bytes = test::exact_bytes(small_file());
    const File file = File::parse(bytes, "m.safetensors");
    ASSERT_EQ(file.tensors().size(), 3u);
    const Tensor& b = file.tensors()[0];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.dtype, Dtype::bf16);
    EXPECT_THAT(b.shape, ElementsAre(2, 3));
    EXPECT_EQ(b.elements(), 6u);
    EXPECT_EQ(b.data.size(), 12u);
    const Tensor& a = file.tensors()[1];
    EXPECT_EQ(a.name, "a");
    EXPECT_THAT(a.shape, IsEmpty()) << "a scalar";
    EXPECT_EQ(a.elements(), 1u);
    EXPECT_EQ(a.data.data(), b.data.data() + 12);
    EXPECT_EQ(file.tensors()[2].elements(), 0u);
}

TEST(Safetensors, KnowsEveryDtype) {
    const std::pair<const char*, std::size_t> dtypes[] = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
        {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},     {"I32", 4},
        {"F32", 4},  {"U64", 8}, {"I64", 8}, {"F64", 8}};
    for (const auto& [name, size] : dtypes) {
        const std::string bytes =
            SafetensorsBuilder().add("t", name, {3}, std::vector<char>(3 * size)).bytes();
        const auto exact = test::exact_bytes(bytes);
        const File file = File::parse(exact, "m.safetensors");
        EXPECT_EQ(dtype_name(file.tensors()[0].dtype), name);
        EXPECT_EQ(dtype_size(file.tensors()[0].dtype), size);
    }
}

TEST(Safetensors, MetadataIsNoTensor) {
    EXPECT_EQ(error_of(safetensors_bytes(R"({"__metadata__":{"format":"pt"}})", "")), "no error");
}

struct HostileFile {
    std::string label;
    std::string bytes;
    std::string message;  // begins with this, after "m.safetensors: "
};
void PrintTo(const HostileFile& file, std::ostream* out) {
    *out << file.label;
}

class HostileSafetensors : public testing::TestWithParam<HostileFile> {};

TEST_P(HostileSafetensors, IsRefused) {
    const std::string error = error_of(GetParam().bytes);
    EXPECT_THAT(error, StartsWith(std::string("m.safetensors: ").append(GetParam().message)));
    EXPECT_THAT(error, Not(HasSubstr("\n")));
}

std::string length(std::uint64_t n, std::string_view rest) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &n, sizeof n);
    return bytes.append(rest);
}
// One tensor t over 16 bytes of data.
std::string one(std::string_view fields) {
    return safetensors_bytes(std::string(R"({"t":{)").append(fields).append("}}"), std::string(16, '\0'));
}
std::string offsets(std::string_view range) {
    return one(std::string(R"("dtype":"F32","shape":[2],"data_offsets":)").append(range));
}
std::string shape(std::string_view text) {
    return one(std::string(R"("dtype":"F32","data_offsets":[0,8],"shape":)").append(text));
}
std::string two(std::string_view range_a, std::string_view range_b) {
    std::string header(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":)");
    header.append(range_a)
        .append(R"(},"b":{"dtype":"U8","shape":[8],"data_offsets":)")
        .append(range_b)
        .append("}}");
    return safetensors_bytes(header, std::string(16, '\0'));
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostileSafetensors,
    testing::Values(
        HostileFile{"Empty", "", "truncated in the header"},
        HostileFile{"SevenBytes", "1234567", "truncated in the header"},
        HostileFile{"HeaderBeyondTheEnd", length(3, "{}"), "a header of 3 bytes is longer than the file"},
        HostileFile{"HeaderOverflows", length(0xffffffffffffffff, "{}"),
                    "a header of 18446744073709551615 bytes"},
        HostileFile{"Garbage", safetensors_bytes("\x80\xff{{{", ""), "not valid JSON: "},
        HostileFile{"EmptyHeader", safetensors_bytes("", ""), "not valid JSON: "},
        HostileFile{"LineBreakInGarbage", safetensors_bytes("{\n\"a\"\n\n?", ""), "not valid JSON: "},
        HostileFile{"List", safetensors_bytes("[]", ""), "the header is not a JSON object"},
        HostileFile{"DeepNesting", safetensors_bytes(std::string(1'000'000, '['), ""),
                    "the JSON is nested too deeply"},
        HostileFile{"DeepObjects",
                    safetensors_bytes(
                        [] {
                            std::string text;
                            for (int i = 0; i < 1000; ++i) text += "{\"a\":";
                            return text;
                        }(),
                        ""),
                    "the JSON is nested too deeply"},
        HostileFile{"Twice", safetensors_bytes(R"({"t":1,"t":2})", ""), "the name t stands twice"},
        HostileFile{"FieldTwice", offsets(R"([0,8],"dtype":"F16")"), "the name dtype stands twice"},
        HostileFile{"NoObject", safetensors_bytes(R"({"t":[1]})", ""),
                    "tensor t is not described by an object"},
        HostileFile{"NoDtype", one(R"("shape":[2],"data_offsets":[0,8])"), "tensor t has no dtype"},
        HostileFile{"UnknownDtype", one(R"("dtype":"F4\n","shape":[2],"data_offsets":[0,8])"),
                    "tensor t has the unknown dtype F4\\x0a"},
        HostileFile{"NoShape", one(R"("dtype":"F32","data_offsets":[0,8])"), "tensor t has no shape"},
        HostileFile{"NegativeShape", shape("[-2]"), "tensor t has a shape that is not whole numbers"},
        HostileFile{"FractionalShape", shape("[2.0]"), "tensor t has a shape that is not whole numbers"},
        HostileFile{"NestedShape", shape("[[2]]"), "tensor t has a shape that is not whole numbers"},
        // 4 * 2^31 * 2^31 = 0 modulo 2^64
        HostileFile{"ShapeOverflows", shape("[2147483648,2147483648]"),
                    "tensor t has a shape whose size overflows"},
        HostileFile{"ShapeOfHugeNumber", shape("[99999999999999999999999]"),
                    "tensor t has a shape that is not whole numbers"},
        HostileFile{"WrongSize", shape("[3]"), "tensor t takes 8 bytes, its shape and dtype 12"},
        HostileFile{"RestUnused", shape("[1]"), "tensor t takes 8 bytes, its shape and dtype 4"},
        HostileFile{"NoOffsets", one(R"("dtype":"F32","shape":[2])"), "tensor t has no data_offsets"},
        HostileFile{"OneOffset", offsets("[8]"), "tensor t has data_offsets outside the file"},
        HostileFile{"ReversedOffsets", offsets("[8,0]"), "tensor t has data_offsets outside the file"},
        HostileFile{"BeyondTheEnd", offsets("[12,20]"), "tensor t has data_offsets outside the file"},
        HostileFile{"HugeOffsets", offsets("[18446744073709551607,18446744073709551615]"),
                    "tensor t has data_offsets outside the file"},
        HostileFile{"NegativeOffsets", offsets("[-8,0]"),
                    "tensor t has a data_offsets that is not whole numbers"},
        HostileFile{"Overlap", two("[0,8]", "[4,12]"), "tensors a and b overlap"},
        HostileFile{"SameBytes", two("[8,16]", "[8,16]"), "tensors a and b overlap"}),
    [](const auto& test_info) { return test_info.param.label; });

TEST(TruncatedSafetensors, IsRefusedAtEveryByte) {
    const std::string whole = small_file();
    ASSERT_EQ(error_of(whole), "no error");
    for (std::size_t n = 0; n < whole.size(); ++n) {
        ASSERT_THAT(error_of(std::string_view(whole).substr(0, n)), StartsWith("m.safetensors: ")) << n;
    }
}

class CheckpointTest : public testing::Test {
  protected:
    void shard(const std::string& file, const std::string& tensor, std::uint8_t value) {
        test::write_file(
            directory_ / file,
            SafetensorsBuilder().add(tensor, "U8", {1}, std::vector<std::uint8_t>{value}).bytes());
    }
    void index(const std::string& json) {
        test::write_file(directory_ / "model.safetensors.index.json", json);
    }
    std::string error() const {
        try {
            Checkpoint::open(directory_.path());
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    }

    test::TemporaryDirectory directory_;
};

TEST_F(CheckpointTest, OneFile) {
    shard("model.safetensors", "x", 7);
    const Checkpoint checkpoint = Checkpoint::open(directory_.path());
    EXPECT_THAT(checkpoint.names(), ElementsAre("x"));
    EXPECT_EQ(checkpoint.find("x")->data[0], std::byte{7});
    EXPECT_EQ(checkpoint.find("y"), nullptr);
}

TEST_F(CheckpointTest, Shards) {
    shard("one.safetensors", "x", 1);
    shard("two.safetensors", "y", 2);
    index(R"({"metadata":{"total_size":2},"weight_map":{"x":"one.safetensors","y":"two.safetensors"}})");
    Checkpoint opened = Checkpoint::open(directory_.path());
    const Checkpoint checkpoint = std::move(opened);
    EXPECT_THAT(checkpoint.names(), ElementsAre("x", "y"));
    EXPECT_EQ(checkpoint.find("y")->data[0], std::byte{2});
    checkpoint.release(*checkpoint.find("y"), checkpoint.find("y")->data);
    EXPECT_EQ(checkpoint.find("y")->data[0], std::byte{2}) << "released pages come back";
}

TEST_F(CheckpointTest, RefusesBrokenDirectories) {
    EXPECT_THAT(error(), HasSubstr("model.safetensors: cannot open"));
    shard("one.safetensors", "x", 1);
    shard("two.safetensors", "x", 2);
    index("{");
    EXPECT_THAT(error(), HasSubstr("index.json: not valid JSON"));
    index("[]");
    EXPECT_THAT(error(), HasSubstr("index.json: no object weight_map"));
    index(R"({"weight_map":{"x":"three.safetensors"}})");
    EXPECT_THAT(error(), HasSubstr("index.json: the shard three.safetensors is missing"));
    index(R"({"weight_map":{"y":"one.safetensors"}})");
    EXPECT_THAT(error(), HasSubstr("index.json: tensor y is not in one.safetensors"));
    index(R"({"weight_map":{"x":"one.safetensors","x":"two.safetensors"}})");
    EXPECT_THAT(error(), HasSubstr("index.json: the name x stands twice"));
    index(R"({"weight_map":{"x":"one.safetensors","y":"two.safetensors"}})");
    EXPECT_THAT(error(), HasSubstr("two.safetensors: tensor x is also in"));
}

TEST_F(CheckpointTest, RefusesFilesOutsideTheDirectory) {
    shard("one.safetensors", "x", 1);
    for (const std::string name :
         {"../one.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b", "one.safetensors\\u0000"}) {
        index(std::string(R"({"weight_map":{"x":")").append(name).append("\"}}"));
        EXPECT_THAT(error(), HasSubstr("which is not a plain file name")) << name;
    }
    index(R"({"weight_map":{"x":7}})");
    EXPECT_THAT(error(), HasSubstr("which is not a plain file name"));
}

TEST(Checkpoint, NeedsADirectory) {
    EXPECT_THROW(Checkpoint::open("/nowhere"), IoError);
}

}  // namespace
}  // namespace ds4::safetensors
