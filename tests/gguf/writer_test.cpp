#include "gguf/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <random>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "temporary_directory.h"

namespace ds4::gguf {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::byte> random_bytes(std::mt19937& random, std::size_t n) {
    std::vector<std::byte> bytes(n);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xff);
    return bytes;
}

std::string random_text(std::mt19937& random) {
    std::string text;
    for (std::size_t n = random() % 20; n > 0; --n) text += static_cast<char>(random() & 0xff);
    return text;
}

template <class T>
std::vector<T> random_list(std::mt19937& random) {
    std::vector<T> list;
    for (std::size_t n = random() % 30; n > 0; --n) list.push_back(static_cast<T>(random()));
    return list;
}

// Sets a random key and returns the check that it is read back.
std::function<void(const File&)> set_random_key(std::mt19937& random, const std::string& key,
                                                Writer& writer) {
    const auto bits = static_cast<std::uint32_t>(random());
    switch (random() % 10) {
        case 0:
            writer.set_u32(key, bits);
            return [=](const File& f) { EXPECT_EQ(f.find_uint(key), bits); };
        case 1: {
            const auto value = static_cast<std::int32_t>(bits >> 1);
            writer.set_i32(key, value);
            return [=](const File& f) { EXPECT_EQ(f.find_uint(key), static_cast<std::uint64_t>(value)); };
        }
        case 2: {
            const std::uint64_t value = std::uint64_t{bits} << 32 | bits;
            writer.set_u64(key, value);
            return [=](const File& f) { EXPECT_EQ(f.find_uint(key), value); };
        }
        case 3: {
            const float value = static_cast<float>(bits) * 0x1p-13f;
            writer.set_f32(key, value);
            return [=](const File& f) { EXPECT_EQ(f.find_float(key), static_cast<double>(value)); };
        }
        case 4:
            writer.set_bool(key, bits & 1);
            return [=](const File& f) { EXPECT_EQ(f.find_bool(key), bits & 1); };
        case 5: {
            const std::string value = random_text(random);
            writer.set_string(key, value);
            return [=](const File& f) { EXPECT_EQ(f.find_string(key), value); };
        }
        case 6: {
            const auto list = random_list<std::int32_t>(random);
            writer.set_i32_array(key, list);
            return [=](const File& f) { EXPECT_THAT(*f.find_int_array(key), ElementsAreArray(list)); };
        }
        case 7: {
            const auto list = random_list<std::uint32_t>(random);
            writer.set_u32_array(key, list);
            return [=](const File& f) { EXPECT_THAT(*f.find_int_array(key), ElementsAreArray(list)); };
        }
        case 8: {
            const auto list = random_list<float>(random);
            writer.set_f32_array(key, list);
            return [=](const File& f) { EXPECT_THAT(*f.find_float_array(key), ElementsAreArray(list)); };
        }
        default: {
            std::vector<std::string> list(random() % 30);
            for (std::string& text : list) text = random_text(random);
            writer.set_string_array(key, list);
            return [=](const File& f) { EXPECT_THAT(*f.find_string_array(key), ElementsAreArray(list)); };
        }
    }
}

struct RandomTensor {
    std::string name;
    const quant::Format* format;
    std::vector<std::uint64_t> ne;
    std::vector<std::byte> data;
};

RandomTensor random_tensor(std::mt19937& random, const std::string& name) {
    RandomTensor t{name, &quant::formats()[random() % quant::formats().size()], {}, {}};
    t.ne.push_back(t.format->block_elems * (1 + random() % 4));
    for (std::size_t d = random() % 4; d > 0; --d) t.ne.push_back(1 + random() % 5);
    std::size_t rows = 1;
    for (std::size_t d = 1; d < t.ne.size(); ++d) rows *= t.ne[d];
    t.data = random_bytes(random, rows * quant::row_bytes(*t.format, t.ne[0]));
    return t;
}

// In pieces, as a converter does.
void write_in_pieces(std::mt19937& random, std::span<const std::byte> data, Writer& writer) {
    while (!data.empty()) {
        const std::size_t n = std::min<std::size_t>(data.size(), 1 + random() % 500);
        writer.write(data.first(n));
        data = data.subspan(n);
    }
}

TEST(GgufWriter, RoundTripOfRandomFiles) {
    const test::TemporaryDirectory directory;
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937 random(seed);
        Writer writer(directory / "a.gguf", 8u << (random() % 5));
        std::vector<std::function<void(const File&)>> checks;
        for (std::size_t i = random() % 20; i > 0; --i) {
            checks.push_back(set_random_key(random, "key " + std::to_string(i), writer));
        }
        std::vector<RandomTensor> tensors;
        for (std::size_t i = random() % 8; i > 0; --i) {
            tensors.push_back(random_tensor(random, "tensor " + std::to_string(i)));
            writer.add_tensor(tensors.back().name, tensors.back().format->type, tensors.back().ne);
        }
        writer.begin();
        for (const RandomTensor& t : tensors) write_in_pieces(random, t.data, writer);
        writer.commit();

        const File file = File::open(directory / "a.gguf");
        for (const auto& check : checks) check(file);
        ASSERT_EQ(file.tensors().size(), tensors.size());
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            const Tensor& t = file.tensors()[i];
            EXPECT_EQ(t.name, tensors[i].name);
            EXPECT_EQ(t.format, tensors[i].format);
            EXPECT_EQ(t.n_dims, static_cast<int>(tensors[i].ne.size()));
            EXPECT_TRUE(std::equal(tensors[i].ne.begin(), tensors[i].ne.end(), t.ne.begin()));
            EXPECT_THAT(t.data, ElementsAreArray(tensors[i].data));
        }
    }
}

class GgufWriterTest : public testing::Test {
  protected:
    std::string error_of(const std::function<void()>& call) const {
        try {
            call();
        } catch (const GgufError& error) {
            return std::string(error.what()).substr(path_.string().size());
        }
        return "no error";
    }
    void add(std::string_view name, std::vector<std::uint64_t> ne, quant::Type type = quant::Type::f32) {
        writer_.add_tensor(name, type, ne);
    }

    test::TemporaryDirectory directory_;
    std::filesystem::path path_ = directory_ / "a.gguf";
    Writer writer_{path_};
};

TEST_F(GgufWriterTest, AliasesShareBytes) {
    const std::vector<std::byte> data(32, std::byte{7});
    add("a", {8});
    writer_.add_alias("b", "a");
    add("c", {8});
    writer_.add_alias("d", "b");
    writer_.begin();
    writer_.write(data);
    writer_.write(data);
    writer_.commit();
    const File file = File::open(path_);
    EXPECT_EQ(file.find_tensor("a")->offset, file.find_tensor("b")->offset);
    EXPECT_EQ(file.find_tensor("a")->offset, file.find_tensor("d")->offset);
    EXPECT_NE(file.find_tensor("a")->offset, file.find_tensor("c")->offset);
    EXPECT_THAT(file.find_tensor("c")->data, ElementsAreArray(data));
    EXPECT_EQ(file.data_bytes(), 2 * data.size());
}

TEST_F(GgufWriterTest, RefusesWrongDeclarations) {
    constexpr std::uint64_t kHuge = std::uint64_t{1} << 62;
    writer_.set_u32("k", 1);
    add("t", {8});
    EXPECT_EQ(error_of([&] { writer_.set_string("k", ""); }), ": key k is set twice");
    EXPECT_EQ(error_of([&] { add("t", {8}); }), ": tensor t is declared twice");
    EXPECT_EQ(error_of([&] { writer_.add_alias("t", "t"); }), ": tensor t is declared twice");
    EXPECT_EQ(error_of([&] { add("u", {}); }), ": tensor u has 0 dimensions");
    EXPECT_EQ(error_of([&] { add("u", {1, 1, 1, 1, 1}); }), ": tensor u has 5 dimensions");
    EXPECT_EQ(error_of([&] { add("u", {8, 0}); }), ": tensor u has a dimension of 0");
    EXPECT_EQ(error_of([&] { add("u", {kHuge, kHuge}); }), ": tensor u is too large");
    EXPECT_EQ(error_of([&] { add("u", {kHuge}); }), ": tensor u is too large");
    EXPECT_EQ(error_of([&] { add("u", {40}, quant::Type::q8_0); }),
              ": tensor u: rows of 40 are not whole blocks of Q8_0");
    EXPECT_EQ(error_of([&] { writer_.add_alias("v", "u"); }),
              ": tensor v is to share the bytes of u, which is not declared");
    EXPECT_EQ(error_of([&] { Writer(path_, 48); }), ": alignment 48 is not a power of two from 8 to 65536");
}

TEST_F(GgufWriterTest, RefusesNamesThatTheReaderRefuses) {
    const std::string longest(65535, 'n');
    writer_.set_u32(longest, 1);
    add(longest, {8});
    const std::string too_long = longest + "n";
    EXPECT_EQ(error_of([&] { writer_.set_u32("", 1); }), ": key has an empty name");
    EXPECT_EQ(error_of([&] { add("", {8}); }), ": tensor has an empty name");
    EXPECT_EQ(error_of([&] { writer_.add_alias("", longest); }), ": tensor has an empty name");
    EXPECT_THAT(error_of([&] { writer_.set_u32(too_long, 1); }),
                HasSubstr(" has a name of 65536 bytes, at most 65535 are allowed"));
    EXPECT_THAT(error_of([&] { add(too_long, {8}); }),
                HasSubstr(" has a name of 65536 bytes, at most 65535 are allowed"));
    EXPECT_EQ(error_of([&] { writer_.set_u32("general.alignment", 64); }),
              ": key general.alignment is the constructor's to set");
    writer_.begin();
    writer_.write(std::vector<std::byte>(32));
    writer_.commit();
    const File file = File::open(path_);
    EXPECT_EQ(file.find_uint(longest), 1u);
    EXPECT_NE(file.find_tensor(longest), nullptr);
}

TEST_F(GgufWriterTest, RefusesCallsOutOfOrder) {
    add("a", {8});
    const std::vector<std::byte> data(32);
    EXPECT_EQ(error_of([&] { writer_.write(data); }), ": data is written before begin()");
    EXPECT_EQ(error_of([&] { writer_.commit(); }), ": commit() is called before begin()");
    writer_.begin();
    EXPECT_EQ(error_of([&] { writer_.begin(); }), ": begin() is called twice");
    EXPECT_EQ(error_of([&] { writer_.set_u32("k", 1); }), ": key k is declared after begin()");
    EXPECT_EQ(error_of([&] { add("b", {8}); }), ": tensor b is declared after begin()");
    EXPECT_EQ(error_of([&] { writer_.add_alias("b", "a"); }), ": tensor b is declared after begin()");
    writer_.write(data);
    writer_.commit();
    EXPECT_EQ(File::open(path_).tensors().size(), 1u);
}

TEST_F(GgufWriterTest, RefusesWrongAmountsOfData) {
    add("a", {8});
    add("b", {8});
    writer_.begin();
    const std::vector<std::byte> data(33);
    EXPECT_EQ(error_of([&] { writer_.write(data); }), ": tensor a: more data than it holds");
    writer_.write(std::span(data).first(32));
    writer_.write(std::span(data).first(31));
    EXPECT_EQ(error_of([&] { writer_.commit(); }), ": tensor b was not written whole");
    writer_.write(std::span(data).first(1));
    EXPECT_EQ(error_of([&] { writer_.write(data); }), ": more data than the declared tensors hold");
    EXPECT_FALSE(std::filesystem::exists(path_)) << "before commit";
    writer_.commit();
    EXPECT_TRUE(std::filesystem::exists(path_));
}

// A file size limit stands for a full disk. In a child process: the limit cannot be raised again.
TEST_F(GgufWriterTest, FullDiskLeavesNothingBehind) {
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1 << 20, 1 << 20};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        try {
            Writer writer(path_);
            writer.add_tensor("t", quant::Type::f32, std::vector<std::uint64_t>{1 << 20});
            writer.begin();
            writer.write(std::vector<std::byte>(4 << 20));
            writer.commit();
        } catch (const IoError& error) {
            ::_exit(std::string_view(error.what()).starts_with(path_.string() + ": cannot write: ") ? 3 : 4);
        }
        ::_exit(5);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 3);
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST(GgufWriter, UnwritableDirectoryIsNamed) {
    Writer writer("/nowhere/a.gguf");
    try {
        writer.begin();
        FAIL();
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), StartsWith("/nowhere/a.gguf: cannot create: "));
    }
}

}  // namespace
}  // namespace ds4::gguf
