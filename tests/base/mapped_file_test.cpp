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

}  // namespace
}  // namespace ds4
