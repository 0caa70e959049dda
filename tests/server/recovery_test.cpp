// The GPU fails in the middle of something, or has no room: who is told what, and what works afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/scripted_engine.h"
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

Json status_of(const ScriptedServer& server) {
    return Json::parse(server.get("/v1/status").body);
}

int n_queued(const ScriptedServer& server) {
    return status_of(server)["queue"]["waiting"];
}

int n_in_phase(const ScriptedServer& server, const std::string& phase) {
    const Json slots = status_of(server)["slots"];
    return static_cast<int>(
        std::count_if(slots.begin(), slots.end(), [&](const Json& slot) { return slot["phase"] == phase; }));
}

template <class Condition>
void wait_until(Condition condition) {
    while (!condition()) std::this_thread::sleep_for(1ms);
}

// Time goes on when the test says so.
class Clock {
  public:
    void give_to(ServiceOptions& options) {
        options.scheduler.now = [this] {
            return Backoff::Clock::time_point(1h + std::chrono::milliseconds(elapsed_ms_));
        };
    }
    void advance(std::chrono::milliseconds time) { elapsed_ms_ += time.count(); }

  private:
    std::atomic<std::int64_t> elapsed_ms_{0};
};

// The GPU fails at the next step, whosever it is.
class StepFault {
  public:
    StepFault() {
        test::set_step_listener([this](std::span<const Engine::Work>) {
            if (is_told_.exchange(false)) throw DeviceError("the scripted device fails when it is told to");
        });
    }
    ~StepFault() { test::set_step_listener({}); }
    StepFault(const StepFault&) = delete;
    StepFault& operator=(const StepFault&) = delete;

    void tell() { is_told_ = true; }

  private:
    std::atomic<bool> is_told_{false};
};

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
    EXPECT_EQ(status_of(server)["state"], "gpu failed");
    expect_unavailable(server.post(kChat, ask("good").dump()));
    EXPECT_TRUE(becomes_healthy(server));
    EXPECT_EQ(status_of(server)["state"], "ready");
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
    running.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(running.read_until("slow"));
    failing.request("POST", kChat, ask("bad").dump());
    wait_until([&] { return n_queued(server) == 1; });
    waiting.request("POST", kChat, ask("good").dump());
    wait_until([&] { return n_queued(server) == 2; });
    running.close();
    expect_unavailable(failing.read());
    expect_unavailable(waiting.read());
    // Nor does the server's end wait for it.
}

// It opens, and fails at its next step.
TEST(Recovery, ADeviceThatFailsAgainIsNotRestartedAgainAtOnce) {
    Script broken = script();
    broken.device_failures = 3;
    Clock clock;
    ServiceOptions options;
    clock.give_to(options);
    options.scheduler.restart_wait = 1h;
    const ScriptedServer server(broken, options);
    const auto state_after_restart = [&] {
        wait_until([&] { return status_of(server)["state"] != "restarting"; });
        return status_of(server)["state"].get<std::string>();
    };
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    EXPECT_EQ(state_after_restart(), "ready");
    // Long after the first time: that is another matter.
    clock.advance(2h);
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    EXPECT_EQ(state_after_restart(), "ready");
    clock.advance(30s);
    expect_unavailable(server.post(kChat, ask("bad").dump()));
    EXPECT_EQ(state_after_restart(), "gpu failed");
    expect_unavailable(server.post(kChat, ask("good").dump()));
}

// Whoever owns the process is asked for another one, and nobody waits for the GPU meanwhile.
TEST(Recovery, ADeviceThatIsLostIsNotTriedAgain) {
    Script lost = script();
    lost.device_lost = true;
    std::atomic<int> n_losses{0};
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    options.scheduler.restart_wait = 1ms;
    options.scheduler.on_device_lost = [&] { ++n_losses; };
    const ScriptedServer server(lost, options);
    HttpClient running(server.port()), failing(server.port()), waiting(server.port());
    running.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(running.read_until("slow"));
    failing.request("POST", kChat, ask("bad").dump());
    wait_until([&] { return n_queued(server) == 1; });
    waiting.request("POST", kChat, ask("good").dump());
    wait_until([&] { return n_queued(server) == 2; });
    running.close();
    expect_unavailable(failing.read());
    expect_unavailable(waiting.read());
    for (int i = 0; i < 1000 && n_losses == 0; ++i) std::this_thread::sleep_for(5ms);
    EXPECT_EQ(status_of(server)["state"], "gpu failed");
    std::this_thread::sleep_for(20ms);
    expect_unavailable(server.post(kChat, ask("good").dump()));
    EXPECT_EQ(n_losses, 1);
    // Nor does the server's end wait for it.
}

TEST(Recovery, WhoWaitsForASlotIsAnsweredAfterwards) {
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    const ScriptedServer server(script(), options);
    EXPECT_EQ(content(server.post(kChat, ask("good").dump())), "fine");
    HttpClient running(server.port()), failing(server.port()), first(server.port()), second(server.port());
    running.request("POST", kChat, ask("slow", true).dump());
    ASSERT_TRUE(running.read_until("slow"));
    ASSERT_EQ(status_of(server)["cache"]["parked"], 1);
    failing.request("POST", kChat, ask("bad").dump());
    wait_until([&] { return n_queued(server) == 1; });
    // The one goes on with a parked conversation, the other is new.
    Json turn = ask("good");
    turn["messages"].push_back({{"role", "assistant"}, {"content", "fine"}});
    turn["messages"].push_back({{"role", "user"}, {"content", "as good"}});
    first.request("POST", kChat, turn.dump(), "Priority: u=7\r\n");
    second.request("POST", kChat, ask("no less good").dump(), "Priority: u=7\r\n");
    wait_until([&] { return n_queued(server) == 3; });
    running.close();
    expect_unavailable(failing.read());
    EXPECT_EQ(content(first.read()), "fine");
    EXPECT_EQ(content(second.read()), "fine");
}

// For memory, or for another one's prompt.
TEST(Recovery, WhoWaitsInASlotIsToldAtOnce) {
    StepFault fault;
    Script slow_reader = script();
    slow_reader.prefill_us = 1000;
    ServiceOptions options;
    options.scheduler.n_slots = 3;
    options.scheduler.max_step = 10ms;
    const ScriptedServer server(slow_reader, options);
    HttpClient leader(server.port()), follower(server.port()), stalled(server.port()), queued(server.port());
    const std::string book = words("much to read ", 3000);
    leader.request("POST", kChat, ask(book + "good").dump());
    wait_until([&] { return n_in_phase(server, "prefill") == 1; });
    follower.request("POST", kChat, ask(book + "good").dump());
    wait_until([&] { return n_in_phase(server, "waiting") == 1; });
    stalled.request("POST", kChat, ask("full").dump());
    wait_until([&] { return n_in_phase(server, "waiting") == 2; });
    queued.request("POST", kChat, ask("good").dump());
    wait_until([&] { return n_queued(server) == 1; });
    fault.tell();
    for (HttpClient* client : {&leader, &follower, &stalled}) expect_unavailable(client->read());
    EXPECT_EQ(content(queued.read()), "fine");
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

// Somebody else's memory, or a large step's: it may be there again.
TEST(DeviceMemory, IsTriedAgainAfterAWhile) {
    Clock clock;
    ServiceOptions options;
    clock.give_to(options);
    options.scheduler.n_slots = 3;
    Script patient = script();
    patient.rules.push_back({"long" + kAnswers, words("slow ", 5000)});
    const ScriptedServer server(patient, options);
    HttpClient running(server.port()), stalled(server.port()), next(server.port());
    running.request("POST", kChat, ask("long", true).dump());
    ASSERT_TRUE(running.read_until("slow"));
    stalled.request("POST", kChat, ask("full").dump());
    wait_until([&] { return n_in_phase(server, "waiting") == 1; });
    stalled.close();
    wait_until([&] { return n_in_phase(server, "waiting") == 0; });
    // There seems to be no room for it beside the one that runs.
    next.request("POST", kChat, ask("good").dump());
    wait_until([&] { return n_queued(server) == 1; });
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(running.read_until("slow"));
    EXPECT_EQ(n_queued(server), 1);
    clock.advance(options.scheduler.memory_wait);
    EXPECT_EQ(content(next.read()), "fine");
    EXPECT_EQ(n_in_phase(server, "decode"), 1);
}

}  // namespace
}  // namespace ds4::server
