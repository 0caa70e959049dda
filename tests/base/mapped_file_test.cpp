#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>

#include "ds4/error.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, GivesTheBytesOfTheFile) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", "some bytes");
    EXPECT_EQ(text_of(MappedFile::open(dir / "f")), "some bytes");
}

TEST(MappedFile, AnEmptyFileHasNoBytes) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", "");
    EXPECT_TRUE(MappedFile::open(dir / "f").bytes().empty());
}

TEST(MappedFile, MovingKeepsViewsValid) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", "some bytes");
    MappedFile first = MappedFile::open(dir / "f");
    const std::byte* data = first.bytes().data();
    const MappedFile second = std::move(first);
    EXPECT_EQ(second.bytes().data(), data);
    EXPECT_EQ(text_of(second), "some bytes");
}

TEST(MappedFile, ReleasedPagesReadTheSameAgain) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", std::string(100000, 'x'));
    const MappedFile file = MappedFile::open(dir / "f");
    file.release(file.bytes().subspan(5000));
    EXPECT_EQ(text_of(file), std::string(100000, 'x'));
}

TEST(MappedFile, NamesAMissingFile) {
    try {
        MappedFile::open("/nowhere/model.gguf");
        FAIL() << "must throw";
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("/nowhere/model.gguf: cannot open: No such file"));
    }
}

TEST(MappedFile, RefusesAFifoWithoutWaitingForAWriter) {
    const test::TemporaryDirectory dir;
    ASSERT_EQ(::mkfifo((dir / "f").c_str(), 0600), 0);
    EXPECT_THROW(MappedFile::open(dir / "f"), IoError);
}

TEST(MappedFile, RefusesADirectory) {
    const test::TemporaryDirectory dir;
    EXPECT_THROW(MappedFile::open(dir.path()), IoError);
}

std::string read_text(std::span<const std::byte> bytes) {
    std::string text(bytes.size(), '?');
    will_read(bytes);
    read_bytes(bytes, reinterpret_cast<std::byte*>(text.data()));
    return text;
}

TEST(ReadBytes, AreThoseOfTheMapping) {
    const test::TemporaryDirectory dir;
    std::string text;
    for (int i = 0; i < 20000; ++i) text += std::to_string(i);
    test::write_file(dir / "a", text);
    test::write_file(dir / "b", "b" + text);
    const MappedFile a = MappedFile::open(dir / "a"), b = MappedFile::open(dir / "b");
    EXPECT_EQ(read_text(a.bytes()), text);
    EXPECT_EQ(read_text(a.bytes().subspan(12345, 6789)), text.substr(12345, 6789));
    EXPECT_EQ(read_text(b.bytes().subspan(1)), text);
    EXPECT_EQ(read_text(a.bytes().last(1)), text.substr(text.size() - 1));
    EXPECT_EQ(read_text({}), "");
    // What belongs to no file.
    EXPECT_EQ(read_text(std::as_bytes(std::span(text))), text);
}

// The mapping itself would raise a signal.
TEST(ReadBytes, AFileThatHasBecomeShorterIsAnError) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", std::string(100000, 'x'));
    const MappedFile file = MappedFile::open(dir / "f");
    std::filesystem::resize_file(dir / "f", 50000);
    EXPECT_EQ(read_text(file.bytes().first(50000)), std::string(50000, 'x'));
    try {
        read_text(file.bytes());
        FAIL() << "must throw";
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("f: has become shorter"));
    }
}

}  // namespace
}  // namespace ds4
