// ds4-bench as a client: its tables, and how it fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/run_program.h"
#include "apps/running_server.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

// Lines of a CSV file as fields.
std::vector<std::vector<std::string>> read_csv(const std::filesystem::path& path) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(test::read_file(path));
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        rows.emplace_back();
        for (std::string field; std::getline(fields, field, ',');) rows.back().push_back(field);
    }
    return rows;
}

const std::string kModel = std::string(DS4_MODELS) + "/ds4-tiny.gguf";

TEST(Ds4Bench, ReplayComputesNothingAgain) {
    const test::TemporaryDirectory directory;
    const std::string csv = directory / "replay.csv";
    const auto result = test::run_program("ds4-bench", {"replay", "-m", kModel, "--system-words", "100",
                                                        "--turns", "2", "--gen-tokens", "8", "--csv", csv});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto rows = read_csv(csv);
    ASSERT_EQ(rows.size(), 4U);
    EXPECT_EQ(rows[0].back(), "again_tokens");
    for (std::size_t i = 1; i < rows.size(); ++i) {
        EXPECT_EQ(rows[i].back(), "0") << rows[i].front();
        EXPECT_EQ(rows[i][2], rows[i][3]) << rows[i].front();  // continuations that hit
    }
}

TEST(Ds4Bench, ServeAnswersEveryCrowd) {
    const test::TemporaryDirectory directory;
    const std::string csv = directory / "serve.csv";
    const auto result =
        test::run_program("ds4-bench", {"serve", "-m", kModel, "--clients", "1,3", "--requests", "3",
                                        "--prompt-tokens", "40", "--gen-tokens", "4", "--csv", csv});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto rows = read_csv(csv);
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[1][0], "1");
    EXPECT_EQ(rows[2][0], "3");
    for (std::size_t i = 1; i < rows.size(); ++i) {
        EXPECT_EQ(rows[i].size(), rows[0].size());
        EXPECT_EQ(rows[i][1], "3");
        EXPECT_NEAR(std::stod(rows[i][3]), 3 * 40, 3 * 10);  // prompt tokens
    }
}

TEST(Ds4Bench, ServeSaysWhenMostClientsWouldWait) {
    const test::RunningServer server({"--parallel", "3"});
    const auto serve = [&](const std::string& clients) {
        return test::run_program(
            "ds4-bench", {"serve", "--url", "http://127.0.0.1:" + std::to_string(server.port()), "--clients",
                          clients, "--requests", "1", "--prompt-tokens", "40", "--gen-tokens", "2"});
    };
    const auto fits = serve("1,3");
    EXPECT_EQ(fits.status, 0) << fits.err;
    EXPECT_EQ(fits.err, "");
    const auto waits = serve("1,4");
    EXPECT_EQ(waits.status, 0) << waits.err;
    EXPECT_NE(waits.err.find("answers 3 at a time"), std::string::npos) << waits.err;
    EXPECT_NE(waits.err.find("--parallel 4"), std::string::npos) << waits.err;
}

TEST(Ds4Bench, ServeAsksForGreedyAnswers) {
    const test::TemporaryDirectory directory;
    const std::string trace = directory / "trace";
    {
        test::RunningServer server({"--trace", trace});
        const auto result = test::run_program(
            "ds4-bench", {"serve", "--url", "http://127.0.0.1:" + std::to_string(server.port()), "--clients",
                          "1", "--requests", "4", "--prompt-tokens", "40", "--gen-tokens", "12", "--greedy"});
        EXPECT_EQ(result.status, 0) << result.err;
        server.stop(SIGTERM);
    }
    std::istringstream lines(test::read_file(trace));
    int n_answers = 0;
    for (std::string line; std::getline(lines, line); ++n_answers) {
        const auto record = nlohmann::json::parse(line);
        std::string prompt = record["prompt"];
        const std::string before = "<｜User｜>", after = "<｜Assistant｜></think>";
        ASSERT_TRUE(prompt.ends_with(after)) << prompt;
        prompt.resize(prompt.size() - after.size());
        prompt.erase(0, prompt.find(before) + before.size());
        const auto greedy =
            test::run_program("ds4", {"-m", kModel, "-p", prompt, "--nothink", "--temp", "0", "-n", "12"});
        EXPECT_EQ(record["answers"][0]["sampled"].get<std::string>() + "\n", greedy.out);
    }
    EXPECT_EQ(n_answers, 5);  // one is the first touch
}

TEST(Ds4Bench, SaysWhyThereIsNoServer) {
    const std::vector<std::vector<std::string>> uses = {
        {"serve", "-m", "/nonexistent.gguf"},
        {"serve", "--url", "http://127.0.0.1:1"},
        {"replay", "--url", "somewhere"},
    };
    for (const auto& arguments : uses) {
        const auto result = test::run_program("ds4-bench", arguments);
        EXPECT_EQ(result.status, 1) << arguments.back();
        EXPECT_TRUE(result.err.starts_with("ds4-bench: ")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
}

}  // namespace
}  // namespace ds4
