// The GPU fails in the middle of something, or has no room: who is told what, and what works afterwards.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "server/scripted_server.h"
#include "server/step_log.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::HttpAnswer;
using test::HttpClient;
using test::kAnswers;
using test::Script;
using test::ScriptedServer;
using Json = nlohmann::json;

const std::string kChat = "/v1/chat/completions";

std::string words(const std::string& word, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += word;
    return text;
}

Json ask(const std::string& text, bool stream = false) {
    return {{"messages", {{{"role", "user"}, {"content", text}}}},
            {"thinking", {{"type", "disabled"}}},
            {"stream", stream}};
}

Script script() {
    Script script{{{"good" + kAnswers, "fine"},
                   {"bad" + kAnswers, "some text", "device"},
                   {"full" + kAnswers, "fitted", "memory"},
                   {"slow" + kAnswers, words("slow ", 1000)}}};
    script.decode_us = 500;
    return script;
}

std::string content(const HttpAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.status == 200 ? Json::parse(answer.body)["choices"][0]["message"]["content"] : Json("");
}

void expect_unavailable(const HttpAnswer& answer) {
    EXPECT_EQ(answer.status, 503) << answer.body;
    EXPECT_EQ(answer.headers.count("retry-after"), 1U);
    const std::string message = Json::parse(answer.body)["error"]["message"];
    EXPECT_NE(message.find("GPU failed"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
}

bool becomes_healthy(const ScriptedServer& server) {
    for (int i = 0; i < 1000; ++i) {
        if (server.get("/health").status == 200) return true;
        std::this_thread::sleep_for(5ms);
    }
    return false;
}

TEST(Recovery, WhatRunsIsToldToComeAgainAndThenWorks) {
    const ScriptedServer server(script());
    HttpClient stream(server.port());
    stream.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(stream.read_until("slow"));
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    EXPECT_TRUE(stream.read_until("GPU failed"));
    EXPECT_EQ(content(server.post(kChat, ask("good").dump())), "fine");
    EXPECT_TRUE(becomes_healthy(server));
    EXPECT_EQ(content(server.post(kChat, ask("bad").dump())), "some text");
}

TEST(Recovery, ADeviceThatDoesNotRestartIsTriedAgain) {
    Script stubborn = script();
    stubborn.failed_restarts = 3;
    ServiceOptions options;
    options.scheduler.restart_wait = 60ms;  // 420 ms in all
    const ScriptedServer server(stubborn, options);
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    while (Json::parse(server.get("/health").body)["status"] == "restarting")
        std::this_thread::sleep_for(1ms);
    const HttpAnswer health = server.get("/health");
    EXPECT_EQ(health.status, 503);
    EXPECT_EQ(Json::parse(health.body)["status"], "gpu failed");
    EXPECT_EQ(Json::parse(server.get("/v1/status").body)["state"], "gpu failed");
    expect_unavailable(server.post(kChat, ask("good").dump()));
    EXPECT_TRUE(becomes_healthy(server));
    EXPECT_EQ(Json::parse(server.get("/v1/status").body)["state"], "ready");
    EXPECT_EQ(content(server.post(kChat, ask("good").dump())), "fine");
}

// Those who wait are not made to wait for what may never come.
TEST(Recovery, TheQueueIsToldWhenARestartFails) {
    Script stubborn = script();
    stubborn.failed_restarts = 1'000'000;
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    options.scheduler.restart_wait = 1h;
    const ScriptedServer server(stubborn, options);
    HttpClient running(server.port()), failing(server.port()), waiting(server.port());
    const auto n_waiting = [&] {
        return Json::parse(server.get("/v1/status").body)["queue"]["waiting"].get<int>();
    };
    running.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(running.read_until("slow"));
    failing.request("POST", kChat, ask("bad").dump());
    while (n_waiting() < 1) std::this_thread::sleep_for(1ms);
    waiting.request("POST", kChat, ask("good").dump());
    while (n_waiting() < 2) std::this_thread::sleep_for(1ms);
    running.close();
    expect_unavailable(failing.read());
    expect_unavailable(waiting.read());
    // Nor does the server's end wait for it.
}

TEST(Recovery, ConversationsGoOnFromTheDisk) {
    const test::TemporaryDirectory directory;
    ServiceOptions options;
    options.kv_directory = directory.path();
    options.kv_policy.min_tokens = 16;
    options.kv_policy.boundary_align = 16;
    const ScriptedServer server(script(), options);
    const std::string long_text = words("much said ", 60);
    EXPECT_EQ(content(server.post(kChat, ask(long_text + "good").dump())), "fine");
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    const Json answer = Json::parse(server.post(kChat, ask(long_text + "good").dump()).body);
    EXPECT_EQ(answer["choices"][0]["message"]["content"], "fine");
    EXPECT_GT(answer["usage"]["prompt_cache_hit_tokens"], 60);
    EXPECT_GT(server.metric("ds4_kv_disk_files"), 0);
}

// ---- memory ----

TEST(DeviceMemory, IsTakenFromConversationsThatRest) {
    const ScriptedServer server(script());
    EXPECT_EQ(content(server.post(kChat, ask("good").dump())), "fine");
    EXPECT_EQ(content(server.post(kChat, ask("full").dump())), "fitted!");
}

// Once it is known how much there is, nobody tries in vain.
TEST(DeviceMemory, TheYoungestWaitsAndNobodyFails) {
    const test::StepLog log;
    const ScriptedServer server(script());
    HttpClient stream(server.port());
    stream.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(stream.read_until("slow"));
    EXPECT_EQ(content(server.post(kChat, ask("full").dump())), "fitted!");
    EXPECT_TRUE(stream.read_until("[DONE]"));
    int n_prefills = 0;
    for (const auto& step : log.steps()) {
        for (const auto& run : step) n_prefills += run.n > 1 ? 1 : 0;
    }
    EXPECT_LE(n_prefills, 4);
}

}  // namespace
}  // namespace ds4::server
