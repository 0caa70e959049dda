#include "base/output_file.h"

#include <gtest/gtest.h>

#include <iterator>

#include "ds4/error.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

std::ptrdiff_t files_in(const std::filesystem::path& dir) {
    return std::distance(std::filesystem::directory_iterator(dir), std::filesystem::directory_iterator());
}

TEST(OutputFile, CommitPutsTheWholeFileInPlace) {
    const test::TemporaryDirectory dir;
    const std::string large(3 << 20, 'y');
    OutputFile out(dir / "f");
    out.write("head");
    out.write(large);
    EXPECT_EQ(out.size(), 4 + large.size());
    EXPECT_FALSE(std::filesystem::exists(dir / "f"));
    out.commit();
    EXPECT_EQ(test::read_file(dir / "f"), "head" + large);
    EXPECT_EQ(files_in(dir.path()), 1);
}

TEST(OutputFile, WithoutCommitTheOldFileStaysAndNothingIsLeft) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", "old");
    {
        OutputFile out(dir / "f");
        out.write("new");
    }
    EXPECT_EQ(test::read_file(dir / "f"), "old");
    EXPECT_EQ(files_in(dir.path()), 1);
}

TEST(OutputFile, CommitReplacesAnOldFile) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "f", "old");
    OutputFile out(dir / "f");
    out.write("new");
    out.commit();
    EXPECT_EQ(test::read_file(dir / "f"), "new");
}

TEST(OutputFile, NamesATargetThatCannotBeWritten) {
    try {
        OutputFile out("/nowhere/out.gguf");
        FAIL() << "must throw";
    } catch (const IoError& error) {
        EXPECT_STREQ(error.what(), "/nowhere/out.gguf: cannot create: No such file or directory");
    }
}

}  // namespace
}  // namespace ds4
