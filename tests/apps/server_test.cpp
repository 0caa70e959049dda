// ds4-server from outside, with the bundled model: how it starts, answers and ends.
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "apps/run_program.h"
#include "apps/running_server.h"
#include "server/http_client.h"

namespace ds4 {
namespace {

using namespace std::chrono_literals;
using test::HttpAnswer;
using test::RunningServer;
using Json = nlohmann::json;

const std::string kModel = std::string(DS4_MODELS) + "/ds4-tiny.gguf";

const std::string kQuestion =
    R"({"messages":[{"role":"user","content":"What is the capital of France?"}],"thinking":{"type":"disabled"},)"
    R"("temperature":0,"max_tokens":40)";

TEST(Ds4Server, AnswersAsDs4DoesAndEndsCleanly) {
    RunningServer server({});
    const HttpAnswer answer = test::http(server.port(), "POST", "/v1/chat/completions", kQuestion + "}");
    ASSERT_EQ(answer.status, 200) << answer.body;
    const std::string text = Json::parse(answer.body)["choices"][0]["message"]["content"];
    const auto alone = test::run_program("ds4", {"-m", kModel, "-p", "What is the capital of France?",
                                                 "--nothink", "--temp", "0", "-n", "40"});
    EXPECT_EQ(text + "\n", alone.out);
    // Once more, from the cache, and streamed.
    const HttpAnswer again = test::http(server.port(), "POST", "/v1/chat/completions", kQuestion + "}");
    EXPECT_EQ(Json::parse(again.body)["choices"][0]["message"]["content"], text);
    EXPECT_EQ(Json::parse(again.body)["usage"]["prompt_cache_miss_tokens"], 0);
    EXPECT_EQ(server.stop(SIGTERM), 0);
    EXPECT_NE(server.log_text().find("memory: weights 27."), std::string::npos) << server.log_text();
    EXPECT_NE(server.log_text().find("request=req_"), std::string::npos);
}

TEST(Ds4Server, InterruptEndsARunningStreamInTime) {
    RunningServer server({"--shutdown-timeout", "0.2"});
    test::HttpClient client(server.port());
    client.request("POST", "/v1/completions", R"({"prompt":"Once","stream":true,"max_tokens":8000})");
    ASSERT_TRUE(client.read_until("text_completion"));
    EXPECT_EQ(server.stop(SIGINT), 0);
}

TEST(Ds4Server, HasAsManySlotsAsItIsTold) {
    RunningServer server({"--parallel", "16"});
    const Json status = Json::parse(test::http(server.port(), "GET", "/v1/status").body);
    EXPECT_EQ(status["slots"].size(), 16U);
    EXPECT_NE(server.log_text().find("KV state up to 16 x"), std::string::npos) << server.log_text();
}

TEST(Ds4Server, SameSeedSameAnswerWhateverElseRuns) {
    RunningServer server({"--parallel", "8"});
    const std::string body =
        R"({"messages":[{"role":"user","content":"Tell me a story."}],"seed":7,"max_tokens":60,)"
        R"("thinking":{"type":"disabled"}})";
    const auto ask = [&] {
        return Json::parse(test::http(server.port(), "POST", "/v1/chat/completions", body)
                               .body)["choices"][0]["message"]["content"]
            .get<std::string>();
    };
    const std::string alone = ask();
    std::vector<std::string> answers(32);  // four times as many as are answered at a time
    std::vector<std::thread> clients;
    for (std::string& answer : answers) clients.emplace_back([&] { answer = ask(); });
    for (std::thread& client : clients) client.join();
    for (const std::string& answer : answers) EXPECT_EQ(answer, alone);
}

// The second turn of a conversation: on the server that has the first in memory, on one that finds it on the
// disk, and on one that has never heard of it. Every digit of every log probability is the same.
TEST(Ds4Server, SameAnswerFromMemoryFromDiskAndAnew) {
    const test::TemporaryDirectory directory;
    const std::vector<std::string> with_disk = {"--kv-disk-dir", (directory / "kv").string(),
                                                "--kv-cache-min-tokens", "16"};
    Json messages = {{{"role", "user"}, {"content", "Tell me a long story about a river and a boat."}}};
    const auto ask = [&](const RunningServer& server) {
        const Json body = {{"messages", messages}, {"seed", 7},         {"max_tokens", 50},
                           {"logprobs", true},     {"top_logprobs", 3}, {"thinking", {{"type", "disabled"}}}};
        return Json::parse(test::http(server.port(), "POST", "/v1/chat/completions", body.dump()).body);
    };
    const auto cached = [](const Json& answer) {
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
    };
    const Json question = messages;
    const auto go_on = [&](const Json& first) {
        messages.push_back(first["choices"][0]["message"]);
        messages.push_back({{"role", "user"}, {"content", "And then?"}});
    };
    {
        RunningServer server(with_disk);
        go_on(ask(server));
        EXPECT_EQ(server.stop(SIGTERM), 0);
    }
    const Json stored = ask(RunningServer(with_disk));
    EXPECT_GT(cached(stored), 50);
    messages = question;
    const RunningServer server({});
    go_on(ask(server));
    const Json live = ask(server);
    EXPECT_GT(cached(live), 50);
    const Json fresh = ask(RunningServer({}));
    EXPECT_EQ(cached(fresh), 0);
    EXPECT_EQ(stored["choices"], live["choices"]);
    EXPECT_EQ(fresh["choices"], live["choices"]);
}

TEST(Ds4Server, RefusesToBeOpenByAccident) {
    const auto open = test::run_program("ds4-server", {"-m", kModel, "--host", "0.0.0.0", "--port", "0"});
    EXPECT_EQ(open.status, 1);
    EXPECT_NE(open.err.find("--api-key"), std::string::npos);
    EXPECT_EQ(std::count(open.err.begin(), open.err.end(), '\n'), 1);
    RunningServer allowed({"--host", "0.0.0.0", "--insecure"});
    EXPECT_EQ(test::http(allowed.port(), "GET", "/health").status, 200);
}

TEST(Ds4Server, SaysWhatIsWrongInOneLine) {
    const std::vector<std::vector<std::string>> uses = {
        {"-m", "/nonexistent.gguf", "--port", "0"},
        {"-m", kModel, "--port", "0", "--host", "nowhere.invalid", "--insecure"},
        {"-m", kModel, "--port", "0", "--trace", "/nonexistent/trace"},
        {"-m", kModel, "--port", "0", "--ctx", "99999999"},
        {"-m", kModel, "--port", "0", "--api-key-file", "/nonexistent/key"},
    };
    for (const auto& arguments : uses) {
        const auto result = test::run_program("ds4-server", arguments);
        EXPECT_EQ(result.status, 1) << arguments.back();
        EXPECT_TRUE(result.err.starts_with("ds4-server: ")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
    EXPECT_EQ(test::run_program("ds4-server", {"--port", "99999"}).status, 2);
}

}  // namespace
}  // namespace ds4
