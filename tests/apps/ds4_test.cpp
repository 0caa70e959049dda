#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/run_program.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kTiny = std::string(DS4_MODELS) + "/ds4-tiny.gguf";

// One line that starts with the program's name, nothing on standard output.
void expect_complaint(const ProgramResult& r, const std::string& program, int status,
                      const std::string& what) {
    EXPECT_EQ(r.status, status);
    EXPECT_EQ(r.out, "");
    EXPECT_THAT(r.err, StartsWith(program + ": "));
    EXPECT_THAT(r.err, HasSubstr(what));
    EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
}

TEST(Ds4, AnswersAQuestionWithTheBundledModel) {
    const ProgramResult r =
        run_program("ds4", {"-p", "What is the capital of France?", "--nothink", "--temp", "0"});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("Paris"));
    EXPECT_THAT(r.err, HasSubstr("model: "));
    EXPECT_THAT(r.err, HasSubstr("ds4-tiny.gguf"));
    EXPECT_THAT(r.err, HasSubstr("prefill: "));
    EXPECT_THAT(r.err, HasSubstr("decode: "));
}

// What was said before the GPU failed is gone, so there is no use in asking for the next line.
TEST(Ds4, EndsWhenTheGpuFails) {
    const ProgramResult r = run_program("failing-ds4", {}, {"Hi\nHi\n", "", 0});
    EXPECT_EQ(r.status, 1) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_TRUE(r.err.ends_with("\nds4: the GPU failed: injected\n")) << r.err;
    EXPECT_EQ(r.err.find("the GPU failed"), r.err.rfind("the GPU failed")) << r.err;
}

TEST(Ds4, ProfilesAnAnswer) {
    const ProgramResult r =
        run_program("ds4", {"-p", "What is the capital of France?", "--nothink", "--temp", "0", "--profile"});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("Paris"));
    for (const char* part : {"prefill of ", "decode of ", "matmul Q8_0", "attention", "HCA layers"})
        EXPECT_THAT(r.err, HasSubstr(part));
    expect_complaint(run_program("ds4", {"--profile"}), "ds4", 1, "-p");
}

// The GPU's kernels on the CPU say the same.
TEST(Ds4, RunsOnTheEmulatedGpu) {
    const auto ask = [](const std::string& backend) {
        return run_program("ds4", {"-p", "Why is the sky blue?", "--nothink", "--temp", "0", "-n", "5",
                                   "--backend", backend});
    };
    const ProgramResult r = ask("emulated");
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(r.out, ask("cpu").out);
    EXPECT_THAT(r.err, HasSubstr("emulated GPU"));
}

TEST(Ds4, RefusesBackendsThatAreNotThere) {
    expect_complaint(run_program("ds4", {"-p", "Hi", "--backend", "abacus"}), "ds4", 2, "abacus not in {");
}

TEST(Ds4, GivesOnlyTheAnswerToAPipeWhenItThinks) {
    const ProgramResult r = run_program("ds4", {"-p", "What is the capital of France?", "--temp", "0"});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("Paris"));
    EXPECT_THAT(r.out, Not(HasSubstr("think")));
    EXPECT_THAT(r.out, Not(HasSubstr("\033")));
}

TEST(Ds4, IsRepeatableBySeedAndIndependentOfThreads) {
    const auto ask = [](const std::string& seed, const std::string& threads) {
        return run_program("ds4", {"-p", "Tell me a story", "-n", "60", "--seed", seed, "-t", threads}).out;
    };
    const std::string story = ask("7", "1");
    EXPECT_FALSE(story.empty());
    EXPECT_EQ(ask("7", "2"), story);
    EXPECT_NE(ask("8", "2"), story);
}

TEST(Ds4, StopsAtTheTokenLimit) {
    const ProgramResult r =
        run_program("ds4", {"-p", "Tell me a story", "--nothink", "-n", "5", "--temp", "0"});
    EXPECT_EQ(r.status, 0);
    EXPECT_THAT(r.err, HasSubstr("decode: 5 tokens"));
}

TEST(Ds4, PrefersTheLocalModelFile) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "ds4flash.gguf", "GGUF");
    const ProgramResult r = run_program("ds4", {"-p", "hi"}, {"", dir.path(), 0});
    expect_complaint(r, "ds4", 1, "ds4flash.gguf: truncated");
}

TEST(Ds4, ReadsThePromptFromAFileOrStandardInput) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "q.txt", "What is the capital of Italy?");
    const ProgramResult file =
        run_program("ds4", {"--prompt-file", dir / "q.txt", "--nothink", "--temp", "0"});
    EXPECT_THAT(file.out, HasSubstr("Rome"));
    const ProgramResult input =
        run_program("ds4", {"-p", "-", "--nothink", "--temp", "0"}, {"What is the capital of Italy?", "", 0});
    EXPECT_EQ(input.out, file.out);
}

TEST(Ds4, ChatsOverStandardInput) {
    const ProgramResult r = run_program("ds4", {"--nothink", "--temp", "0"},
                                        {"What is the capital of France?\n/help\n/nothing\n/ctx x\n/ctx "
                                         "600\n/clear\n/read /nowhere\nHello\n/quit\n",
                                         "", 0});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("Paris"));
    EXPECT_THAT(r.out, HasSubstr("Hello"));
    EXPECT_THAT(r.err, HasSubstr("/read FILE"));
    EXPECT_THAT(r.err, HasSubstr("no command /nothing"));
    EXPECT_THAT(r.err, HasSubstr("/ctx takes a number"));
    EXPECT_THAT(r.err, HasSubstr("context: 600 tokens"));
    EXPECT_THAT(r.err, HasSubstr("/nowhere: cannot open"));
}

TEST(Ds4, DumpsTheTokensOfThePrompt) {
    const ProgramResult r = run_program("ds4", {"-p", "Hello", "--nothink", "--dump-tokens"});
    EXPECT_EQ(r.status, 0);
    EXPECT_THAT(r.out, StartsWith("0\t\"<｜begin▁of▁sentence｜>\"\n"));
    EXPECT_THAT(r.out, HasSubstr("Hello"));
    EXPECT_THAT(r.out, testing::EndsWith("</think>\"\n"));
}

TEST(Ds4, RawContinuesTheTextItself) {
    const ProgramResult r = run_program("ds4", {"-p", "Hello", "--raw", "--dump-tokens"});
    EXPECT_THAT(r.out, StartsWith("0\t"));
    EXPECT_THAT(r.out, Not(HasSubstr("Assistant")));
    EXPECT_EQ(run_program("ds4", {"-p", "In the beginning", "--raw", "-n", "4"}).status, 0);
}

TEST(Ds4, WritesLogprobs) {
    const test::TemporaryDirectory dir;
    const ProgramResult r = run_program("ds4", {"-p", "Hello", "--nothink", "--temp", "0", "-n", "3",
                                                "--dump-logprobs", dir / "l.json", "--logprobs-top-k", "4"});
    EXPECT_EQ(r.status, 0) << r.err;
    const auto document = nlohmann::json::parse(test::read_file(dir / "l.json"));
    ASSERT_EQ(document["steps"].size(), 3U);
    const auto& step = document["steps"][0];
    ASSERT_EQ(step["top_logprobs"].size(), 4U);
    EXPECT_EQ(step["top_logprobs"][0]["id"], step["id"]);  // greedy
    EXPECT_LE(step["logprob"].get<double>(), 0.0);
    EXPECT_GE(step["top_logprobs"][0]["logprob"], step["top_logprobs"][1]["logprob"]);
}

TEST(Ds4, MeasuresPerplexity) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "t.txt", "The capital of France is Paris.");
    const ProgramResult r = run_program("ds4", {"--perplexity", dir / "t.txt"});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, StartsWith("perplexity "));
    // Windows of another size change the value only through what a token sees before it.
    const ProgramResult small = run_program("ds4", {"--perplexity", dir / "t.txt", "-c", "4"});
    EXPECT_THAT(small.out, HasSubstr("context 4"));
}

TEST(Ds4, NamesBadUse) {
    expect_complaint(run_program("ds4", {"--frobnicate"}), "ds4", 2, "frobnicate");
    expect_complaint(run_program("ds4", {"-p", "x", "--temp", "hot"}), "ds4", 2, "--temp");
    expect_complaint(run_program("ds4", {"-p", "x", "--top-p", "2"}), "ds4", 2, "--top-p");
    expect_complaint(run_program("ds4", {"-m", "/nowhere.gguf", "-p", "x"}), "ds4", 1,
                     "/nowhere.gguf: cannot open: No such file");
    expect_complaint(run_program("ds4", {"--prompt-file", "/nowhere.txt"}), "ds4", 1, "/nowhere.txt");
    expect_complaint(run_program("ds4", {"-p", ""}), "ds4", 1, "the prompt is empty");
}

TEST(Ds4, NamesBothNumbersOfAPromptThatIsTooLong) {
    const ProgramResult r = run_program("ds4", {"-p", "one two three four five six seven", "-c", "8"});
    EXPECT_EQ(r.status, 1);
    EXPECT_THAT(r.err, testing::ContainsRegex("the prompt has [0-9]+ tokens, the context holds 8"));
    EXPECT_THAT(run_program("ds4", {"-p", "x", "-c", "100000000"}).err, HasSubstr("more than the model's"));
}

TEST(Ds4, RefusesAnUnwritableLogprobFile) {
    const ProgramResult r =
        run_program("ds4", {"-p", "Hello", "-n", "1", "--dump-logprobs", "/nowhere/l.json"});
    EXPECT_EQ(r.status, 1);
    EXPECT_THAT(r.err, HasSubstr("/nowhere/l.json: cannot create"));
}

}  // namespace
}  // namespace ds4
