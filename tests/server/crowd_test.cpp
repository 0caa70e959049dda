// Many clients, some of whom leave: nothing leaks, nothing sticks, every stream that stays is whole.
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::HttpAnswer;
using test::HttpClient;
using test::kAnswers;
using test::kThinks;
using test::Script;
using test::ScriptedServer;
using Json = nlohmann::json;

std::string chat(const std::string& text, bool stream, const Json& more = Json::object()) {
    Json body = {{"messages", {{{"role", "user"}, {"content", text}}}},
                 {"stream", stream},
                 {"thinking", {{"type", "disabled"}}}};
    body.update(more);
    return body.dump();
}

std::string repeat(const std::string& text, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += text;
    return out;
}

TEST(Crowd, HalfOfTheStreamsLeave) {
    constexpr int n_clients = 64;
    const std::string text = repeat("word ", 40);
    Script script{{{"talk" + kAnswers, text}}};
    script.decode_us = 200;
    ServiceOptions options;
    options.scheduler.n_slots = 4;
    options.scheduler.max_queue = 100;
    const ScriptedServer server(script, options);
    std::atomic<int> n_whole{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < n_clients; ++i) {
        clients.emplace_back([&, i] {
            std::mt19937 random(static_cast<unsigned>(i));
            HttpClient client(server.port());
            client.request("POST", "/v1/chat/completions", chat("talk", true));
            if (i % 2 == 0) {
                const HttpAnswer answer = client.read(60s);
                std::string content;
                bool is_done = false;
                for (const std::string& line : test::data_lines(answer.body)) {
                    if (line == "[DONE]") {
                        is_done = true;
                        continue;
                    }
                    const Json delta = Json::parse(line)["choices"][0]["delta"];
                    if (delta.contains("content")) content += delta["content"].get<std::string>();
                }
                if (answer.is_complete && is_done && content == text) ++n_whole;
            } else {
                // Before the head, before the first token, or in the middle.
                std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
                for (auto k = random() % 20; k > 0 && !client.read_some(1s).empty(); --k) {
                }
                if (random() % 2 == 0) {
                    client.reset();
                } else {
                    client.close();
                }
            }
        });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(n_whole, n_clients / 2);
    EXPECT_TRUE(server.becomes_idle(3s));
    EXPECT_EQ(server.post("/v1/chat/completions", chat("talk", false)).status, 200);
}

TEST(Crowd, DeparturesAreNoticedWhereverTheRequestIs) {
    Script script{{{"decode" + kAnswers, repeat("word ", 5000)}, {"wait" + kAnswers, "x"}}};
    script.decode_us = 1000;
    script.prefill_us = 20'000;
    script.context = 100'000;
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    options.scheduler.max_step = 100ms;
    const ScriptedServer server(script, options);
    const auto phase = [&] {
        return Json::parse(server.get("/v1/status").body)["slots"][0]["phase"].get<std::string>();
    };
    const auto reaches = [&](const std::string& wanted) {
        for (int i = 0; i < 2000; ++i) {
            if (phase() == wanted) return true;
            std::this_thread::sleep_for(2ms);
        }
        return false;
    };

    HttpClient decoding(server.port()), queued(server.port());
    decoding.request("POST", "/v1/chat/completions", chat("decode", false));
    ASSERT_TRUE(reaches("decode"));
    queued.request("POST", "/v1/chat/completions", chat("wait", false));
    const auto waiting = [&] {
        return Json::parse(server.get("/v1/status").body)["queue"]["waiting"].get<int>();
    };
    while (waiting() == 0) std::this_thread::sleep_for(2ms);
    queued.close();
    for (int i = 0; i < 500 && waiting() > 0; ++i) std::this_thread::sleep_for(2ms);
    EXPECT_EQ(waiting(), 0);
    decoding.close();
    EXPECT_TRUE(server.becomes_idle(1s));

    HttpClient prefilling(server.port());
    prefilling.request("POST", "/v1/chat/completions", chat(repeat("many words ", 2000), true));
    ASSERT_TRUE(reaches("prefill"));
    EXPECT_TRUE(Json::parse(server.get("/v1/status").body)["slots"][0].contains("prefill_progress"));
    prefilling.close();
    EXPECT_TRUE(server.becomes_idle(1s));
    EXPECT_GE(server.metric("ds4_requests_cancelled_total"), 3);
    EXPECT_EQ(server.post("/v1/chat/completions", chat("wait", false)).status, 200);
}

TEST(Crowd, AFullQueueSaysSo) {
    Script script{{{"long" + kAnswers, repeat("word ", 3000)}}};
    script.decode_us = 1000;
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    options.scheduler.max_queue = 1;
    const ScriptedServer server(script, options);
    HttpClient running(server.port()), waiting(server.port());
    running.request("POST", "/v1/chat/completions", chat("long", true));
    ASSERT_TRUE(running.read_until("word"));
    waiting.request("POST", "/v1/chat/completions", chat("long", true));
    ASSERT_TRUE(waiting.read_until("role"));
    const HttpAnswer refused = server.post("/v1/chat/completions", chat("long", false));
    EXPECT_EQ(refused.status, 429);
    EXPECT_TRUE(refused.headers.contains("retry-after"));
    EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "rate_limit_exceeded");
    const HttpAnswer anthropic =
        server.post("/v1/messages", Json{{"messages", {{{"role", "user"}, {"content", "x"}}}}}.dump());
    EXPECT_EQ(anthropic.status, 429);
    EXPECT_EQ(Json::parse(anthropic.body)["error"]["type"], "rate_limit_error");
    // Counting does not queue.
    EXPECT_EQ(server
                  .post("/v1/messages/count_tokens",
                        Json{{"messages", {{{"role", "user"}, {"content", "x"}}}}}.dump())
                  .status,
              200);
}

TEST(Crowd, SilentStreamsShowTheyAreAlive) {
    Script script{{{"slow" + kAnswers, "x"}}};
    script.prefill_us = 10'000;
    ServiceOptions options;
    options.keepalive = 100ms;
    options.scheduler.max_step = 50ms;
    const ScriptedServer server(script, options);
    const std::string prompt = repeat("many words ", 60) + "slow";
    HttpClient client(server.port());
    client.request("POST", "/v1/chat/completions", chat(prompt, true));
    EXPECT_TRUE(client.read_until(": keepalive\n\n"));
    client.close();
    HttpClient anthropic(server.port());
    anthropic.request("POST", "/v1/messages",
                      Json{{"messages", {{{"role", "user"}, {"content", prompt}}}}, {"stream", true}}.dump());
    EXPECT_TRUE(anthropic.read_until("event: message_start"));
    EXPECT_TRUE(anthropic.read_until("event: ping"));
    anthropic.close();
    HttpClient responses(server.port());
    responses.request("POST", "/v1/responses", Json{{"input", prompt}, {"stream", true}}.dump());
    EXPECT_TRUE(responses.read_until("event: response.in_progress"));
    EXPECT_TRUE(responses.read_until("event: response.in_progress"));
}

TEST(Crowd, ShutdownLetsAnswersFinishOrSaysWhy) {
    Script script{{{"short" + kAnswers, repeat("word ", 100)}, {"long" + kAnswers, repeat("word ", 5000)}}};
    script.decode_us = 1000;
    ScriptedServer server(script);
    HttpClient brief(server.port()), endless(server.port());
    brief.request("POST", "/v1/chat/completions", chat("short", true));
    endless.request("POST", "/v1/chat/completions", chat("long", true));
    ASSERT_TRUE(brief.read_until("word"));
    ASSERT_TRUE(endless.read_until("word"));
    std::thread stopper([&] { server.service().stop(1s); });
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(server.post("/v1/chat/completions", chat("short", false)).status, 503);
    EXPECT_TRUE(brief.read_until("[DONE]", 3s));
    EXPECT_TRUE(endless.read_until("shutting down", 3s));
    stopper.join();
}

}  // namespace
}  // namespace ds4::server
