// The program ds4-convert: exit status and what it prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "convert/checkpoint_copy.h"
#include "gguf/gguf.h"

namespace ds4 {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Result {
    int status;
    std::string output;  // both streams
};

class ProgramTest : public testing::Test {
  protected:
    static Result run(const std::string& arguments) {
        const std::string command =
            std::string("'" DS4_CONVERT "' ").append(arguments).append(" 2>&1 </dev/null");
        FILE* pipe = ::popen(command.c_str(), "r");
        Result result{-1, ""};
        for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) result.output += static_cast<char>(c);
        const int status = ::pclose(pipe);
        if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
        return result;
    }
    std::string quoted(const std::string& name) const {
        return std::string("'").append((directory_ / name).string()).append("'");
    }

    test::TemporaryDirectory directory_;
};

TEST_F(ProgramTest, Converts) {
    test::CheckpointCopy().write(directory_ / "in");
    const Result result = run(quoted("in") + " -o " + quoted("out.gguf") + " --recipe f32 --mtp " +
                              quoted("mtp.gguf") + " --threads 2");
    EXPECT_EQ(result.status, 0) << result.output;
    EXPECT_THAT(result.output, HasSubstr("out.gguf"));
    EXPECT_THAT(result.output, HasSubstr("no tokenizer"));
    EXPECT_NE(gguf::File::open(directory_ / "out.gguf").find_tensor("output.weight"), nullptr);
    EXPECT_NE(gguf::File::open(directory_ / "mtp.gguf").find_tensor("mtp.0.norm.weight"), nullptr);
}

TEST_F(ProgramTest, WritesTheEffortScheme) {
    test::CheckpointCopy().write(directory_ / "in");
    const Result result = run(quoted("in") + " -o " + quoted("out.gguf") + " --effort-scheme 0731");
    EXPECT_EQ(result.status, 0) << result.output;
    EXPECT_EQ(gguf::File::open(directory_ / "out.gguf").find_string("deepseek4.effort_scheme"), "0731");
    EXPECT_EQ(run(quoted("in") + " -o " + quoted("out.gguf") + " --effort-scheme 1999").status, 2);
}

TEST_F(ProgramTest, WarnsOfLeftovers) {
    test::CheckpointCopy checkpoint;
    checkpoint.set("strange.weight", "F32", {1}, std::vector<float>(1));
    checkpoint.write(directory_ / "in");
    const Result result = run(quoted("in") + " -o " + quoted("out.gguf"));
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.output, StartsWith("ds4-convert: warning: not used: strange.weight\n"));
    EXPECT_THAT(result.output, testing::Not(HasSubstr("mtp.")));
}

TEST_F(ProgramTest, ErrorsAreOneLine) {
    const Result missing = run(quoted("in") + " -o " + quoted("out.gguf"));
    EXPECT_EQ(missing.status, 1);
    EXPECT_THAT(missing.output, StartsWith("ds4-convert: "));
    EXPECT_EQ(std::ranges::count(missing.output, '\n'), 1) << missing.output;

    test::CheckpointCopy().write(directory_ / "in");
    const Result no_place = run(quoted("in") + " -o /nowhere/out.gguf");
    EXPECT_EQ(no_place.status, 1);
    EXPECT_THAT(no_place.output, StartsWith("ds4-convert: /nowhere/out.gguf: cannot create: "));
}

TEST_F(ProgramTest, WrongUseIsNotZero) {
    for (const std::string arguments : {"", "in", "in -o out --recipe q4", "in -o out --unknown",
                                        "in -o out more", "in -o out --threads -1"}) {
        const Result result = run(arguments);
        EXPECT_EQ(result.status, 2) << arguments;
        EXPECT_THAT(result.output, StartsWith("ds4-convert: ")) << arguments;
    }
}

}  // namespace
}  // namespace ds4
