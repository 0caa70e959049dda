// Sessions of coding agents against a scripted model that calls tools. Every row is counted: what was
// computed and is still a beginning is not computed again.
#include "apps/bench/agents.h"

#include <gtest/gtest.h>

#include <thread>

#include "server/scripted_server.h"
#include "server/step_log.h"

namespace ds4::server {
namespace {

using bench::Json;
using bench::Usage;
using test::kAnswers;
using test::kThinks;
using test::ScriptedServer;
using test::StepLog;

// One call for each task, then an answer; blanks in the call as no renderer would put them.
test::Script agent_script() {
    std::string call = test::call_block("run", {{"command", "ls  -l"}});
    call.replace(call.find("\">\n<"), 4, "\">\n\n<");
    return {{{"</tool_result>" + kThinks, "Seen it.</think>It is done."},
             {kThinks, "I have to look.</think>Let me see." + call},
             {kAnswers, "A title"}}};
}

struct Played {
    std::vector<Usage> usages;
    std::vector<StepLog::Run> again;
    std::int64_t n_rows = 0;
};

Played play(void (*trace)(const bench::Post&, bench::Ledger&, const bench::TraceSizes&), int n_slots) {
    const StepLog log;
    ServiceOptions options;
    options.scheduler.n_slots = n_slots;
    const ScriptedServer server(agent_script(), options);
    bench::Ledger ledger;
    bench::TraceSizes sizes;
    sizes.system_words = 600;
    sizes.result_words = 60;
    sizes.turns = 3;
    sizes.answer_tokens = 500;
    const auto post = [&](const std::string& path, const Json& body) {
        const test::HttpAnswer answer = server.post(path, body.dump());
        EXPECT_EQ(answer.status, 200) << answer.body;
        return Json::parse(answer.body);
    };
    trace(post, ledger, sizes);
    return {ledger.usages(), log.again(), log.n_rows()};
}

// What the client knows to have been computed came from the cache, to the last token.
void expect_hits(const Played& played, std::size_t n_continuations) {
    std::size_t n = 0;
    for (const Usage& u : played.usages) {
        if (u.known == 0) continue;
        ++n;
        EXPECT_EQ(u.again(), 0) << u.cached << " of " << u.known << " known tokens of a prompt of "
                                << u.prompt;
    }
    EXPECT_EQ(n, n_continuations);
}

TEST(Agents, OpencodesTwoRequestsDoNotDriveEachOtherOut) {
    for (const int n_slots : {2, 1}) {
        const Played played = play(bench::play_opencode, n_slots);
        expect_hits(played, 5);
        // The two system texts start with the same word, which is computed again as quickly as it is fetched.
        // The last two titles go on from the point behind their system text, in front of the token that
        // starts what a user says.
        EXPECT_EQ(played.again.size(), 3U);
        for (const StepLog::Run& run : played.again) EXPECT_LE(run.n, run.from == 0 ? 4 : 1) << run.from;
    }
}

TEST(Agents, ClaudeCodesHistoryIsComputedOnce) {
    const Played played = play(bench::play_claude_code, 1);
    expect_hits(played, 5);
    EXPECT_TRUE(played.again.empty());
    // All of the last prompt and its answer, but for the end that is sampled and never read.
    const Usage& last = played.usages.back();
    EXPECT_LE(played.n_rows, last.prompt + last.completion);
}

TEST(Agents, SubagentsGoOnFromOneHistory) {
    for (const int n_slots : {5, 2, 1}) {
        const Played played = play(bench::play_subagents, n_slots);
        expect_hits(played, 5 + 4 * 4 + 2);
        // Five branches, the main conversation's among them, start with the same two tokens: the end of the
        // last answer and the start of what a user says. Nobody has put a point there.
        const std::int64_t fork = played.usages[5].prompt + played.usages[5].completion;
        EXPECT_EQ(played.again.size(), 4U);
        for (const StepLog::Run& run : played.again) {
            EXPECT_EQ(run.from, fork);
            EXPECT_EQ(run.n, 2);
        }
    }
}

// One of them computes the system text, the others wait for it and go on from there.
TEST(Agents, WhoStartTogetherComputeTheirCommonTextOnce) {
    test::Script script{{{kAnswers, "Done."}}};
    script.prefill_us = 100;
    const StepLog log;
    ServiceOptions options;
    options.scheduler.n_slots = 5;
    const ScriptedServer server(script, options);
    std::string system;
    for (int i = 0; i < 400; ++i) system += "the same words ";
    std::vector<std::thread> clients;
    for (const std::string task : {"Read", "Write", "Search", "Explain"}) {
        clients.emplace_back([&, task] {
            const Json body = {{"messages",
                                {{{"role", "system"}, {"content", system}},
                                 {{"role", "user"}, {"content", task + " what is there"}}}},
                               {"thinking", {{"type", "disabled"}}}};
            const Json answer = Json::parse(server.post("/v1/chat/completions", body.dump()).body);
            EXPECT_EQ(answer["choices"][0]["message"]["content"], "Done.");
        });
    }
    for (std::thread& client : clients) client.join();
    // A client that comes when the first has been answered finds the point in front of what the user says.
    for (const StepLog::Run& run : log.again()) EXPECT_EQ(run.n, 1) << run.from;
}

}  // namespace
}  // namespace ds4::server
