// What goes into a step: nobody's answer stands still while somebody's prompt is read.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "server/scripted_server.h"
#include "server/step_log.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::HttpClient;
using test::kAnswers;
using test::StepLog;
using Json = nlohmann::json;

std::string repeat(const std::string& text, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += text;
    return out;
}

std::string chat(const std::string& text) {
    return Json{{"messages", {{{"role", "user"}, {"content", text}}}},
                {"stream", true},
                {"thinking", {{"type", "disabled"}}}}
        .dump();
}

constexpr int kStreams = 4;
constexpr int kRowMicroseconds = 100;

// The steps from the first to the last that reads a long prompt while four streams are answered.
std::vector<StepLog::Step> steps_of_a_long_prompt(std::chrono::milliseconds max_step) {
    test::Script script{{{"talk" + kAnswers, repeat("word ", 5000)}, {"read" + kAnswers, "x"}}};
    script.decode_us = 500;
    script.prefill_us = kRowMicroseconds;
    const StepLog log;
    ServiceOptions options;
    options.scheduler.n_slots = kStreams + 1;
    options.scheduler.max_step = max_step;
    const test::ScriptedServer server(script, options);
    std::deque<HttpClient> streams;
    for (int i = 0; i < kStreams; ++i) {
        streams.emplace_back(server.port());
        streams.back().request("POST", "/v1/chat/completions", chat("talk"));
        EXPECT_TRUE(streams.back().read_until("word"));
    }
    const std::size_t before = log.steps().size();
    EXPECT_EQ(server.post("/v1/chat/completions", chat(repeat("many words ", 1000) + "read")).status, 200);
    std::vector<StepLog::Step> steps = log.steps();
    steps.erase(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(before));
    const auto reads = [](const StepLog::Step& step) {
        return std::any_of(step.begin(), step.end(), [](const StepLog::Run& run) { return run.n > 1; });
    };
    const auto first = std::find_if(steps.begin(), steps.end(), reads);
    const auto last = std::find_if(steps.rbegin(), steps.rend(), reads).base();
    return {first, last};
}

std::int64_t most_rows(const StepLog::Step& step) {
    return std::max_element(step.begin(), step.end(), [](const auto& a, const auto& b) { return a.n < b.n; })
        ->n;
}

// So a stream's gap is a decode step and a chunk, and never two chunks.
TEST(Steps, EveryStreamHasARowInEveryStepOfALongPrompt) {
    const auto steps = steps_of_a_long_prompt(20ms);
    ASSERT_GE(steps.size(), 10U);
    const auto& first = steps.front();
    const Session* reader =
        std::find_if(first.begin(), first.end(), [](const auto& run) { return run.n > 1; })->session;
    for (const StepLog::Step& step : steps) {
        EXPECT_EQ(step.size(), std::size_t{kStreams + 1});
        for (const StepLog::Run& run : step) {
            if (run.session == reader) continue;
            EXPECT_EQ(run.n, 1);
        }
    }
}

// A row takes at least its time, so the speed that the server sees is at most this.
TEST(Steps, ChunksAreAsLongAsAStepMayBe) {
    constexpr auto max_step = 5ms;
    for (const StepLog::Step& step : steps_of_a_long_prompt(max_step))
        EXPECT_LE(most_rows(step), std::chrono::microseconds(max_step).count() / kRowMicroseconds);
    std::int64_t longest = 0;
    for (const StepLog::Step& step : steps_of_a_long_prompt(10s))
        longest = std::max(longest, most_rows(step));
    EXPECT_GT(longest, 200);
}

}  // namespace
}  // namespace ds4::server
