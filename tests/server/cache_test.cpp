// Conversations come and go, the server too: what was computed and is still a beginning is not computed
// again.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::call_block;
using test::HttpAnswer;
using test::HttpClient;
using test::kAnswers;
using test::kThinks;
using test::Script;
using test::ScriptedServer;
using Json = nlohmann::json;

const std::string kChat = "/v1/chat/completions";
const Json kTools = Json::parse(R"([{"type":"function","function":{"name":"run","parameters":
    {"type":"object","properties":{"command":{"type":"string"}}}}}])");

// One conversation as its client sees it.
class Client {
  public:
    explicit Client(Json more = Json::object()) : more_(std::move(more)) {}

    // Asks and remembers the answer. Returns usage.
    Json ask(const ScriptedServer& server, const std::string& text, const std::string& headers = "") {
        messages_.push_back({{"role", "user"}, {"content", text}});
        return send(server, headers);
    }
    Json give_result(const ScriptedServer& server, const std::string& text) {
        messages_.push_back(
            {{"role", "tool"}, {"tool_call_id", answer_["tool_calls"][0]["id"]}, {"content", text}});
        return send(server);
    }
    std::string body() const {
        Json body = {{"model", "m"}, {"messages", messages_}};
        body.update(more_);
        return body.dump();
    }
    const Json& answer() const { return answer_; }
    // What of the next prompt is computed already, all but the end of the last answer.
    int n_known() const { return n_known_; }

  private:
    Json send(const ScriptedServer& server, const std::string& headers = "") {
        const HttpAnswer answer = server.post(kChat, body(), headers);
        EXPECT_EQ(answer.status, 200) << answer.body;
        const Json json = Json::parse(answer.body);
        answer_ = json.at("choices").at(0).at("message");
        messages_.push_back(answer_);
        const Json& usage = json.at("usage");
        n_known_ = usage.at("prompt_tokens").get<int>() + usage.at("completion_tokens").get<int>() - 1;
        return usage;
    }

    Json more_;
    Json messages_ = Json::array();
    Json answer_;
    int n_known_ = 0;
};

std::string words(const std::string& word, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += word;
    return text;
}

int cached(const Json& usage) {
    return usage.at("prompt_cache_hit_tokens");
}

const Json kPlain = {{"thinking", {{"type", "disabled"}}}};

Script talk() {
    return {{{"one" + kAnswers, "answer one"},
             {"two" + kAnswers, "answer two"},
             {"three" + kAnswers, "answer three"},
             {"think" + kThinks, "hidden words</think>shown"},
             {"again" + kThinks, "more</think>shown, too"},
             {"list" + kThinks, "Look.</think>I list." + call_block("run", {{"command", "ls  -l"}})},
             {"</tool_result>" + kThinks, "Seen.</think>Two files."}}};
}

ServiceOptions one_slot() {
    ServiceOptions options;
    options.scheduler.n_slots = 1;
    return options;
}

TEST(Cache, ConversationsParkAndComeBack) {
    const ScriptedServer server(talk(), one_slot());
    Client a(kPlain), b(kPlain);
    a.ask(server, "one");
    b.ask(server, "two");
    const int known = a.n_known();
    EXPECT_GE(cached(a.ask(server, "three")), known);
    const int known_b = b.n_known();
    EXPECT_GE(cached(b.ask(server, "three")), known_b);
    EXPECT_GE(Json::parse(server.get("/v1/status").body)["cache"]["parked"].get<int>(), 1);
}

// Only the beginning is the same: another slot is free, so the live one stays where it is.
TEST(Cache, AStrangerTakesAnotherSlot) {
    const ScriptedServer server(talk());
    const std::string system = std::string(400, 's');
    const auto with_system = [&](const std::string& text) {
        Json messages = {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", text}}};
        return Json{{"messages", messages}, {"thinking", {{"type", "disabled"}}}}.dump();
    };
    EXPECT_EQ(server.post(kChat, with_system("one")).status, 200);
    const Json other = Json::parse(server.post(kChat, with_system("two")).body);
    EXPECT_GT(cached(other["usage"]), 50);
    const Json status = Json::parse(server.get("/v1/status").body);
    EXPECT_GT(status["slots"][0]["tokens"], 0);
    EXPECT_GT(status["slots"][1]["tokens"], 0);
    EXPECT_EQ(status["cache"]["parked"], 0);
}

// Four forks of a conversation that is still being answered.
TEST(Cache, ForksGoOnFromABusyConversation) {
    Script script = talk();
    script.rules.push_back({"main" + kAnswers, words("main ", 800)});
    script.decode_us = 500;
    ServiceOptions options;
    options.scheduler.n_slots = 5;
    const ScriptedServer server(script, options);
    const Json history = {{{"role", "system"}, {"content", std::string(600, 's')}},
                          {{"role", "user"}, {"content", "main"}}};
    HttpClient busy(server.port());
    busy.request("POST", kChat,
                 Json{{"messages", history}, {"stream", true}, {"thinking", {{"type", "disabled"}}}}.dump());
    ASSERT_TRUE(busy.read_until("main"));
    std::vector<std::thread> forks;
    std::array<int, 4> hits{};
    for (std::size_t i = 0; i < hits.size(); ++i) {
        forks.emplace_back([&, i] {
            Json messages = history;
            messages[1]["content"] = "fork " + std::to_string(i) + " one";
            const HttpAnswer answer =
                server.post(kChat, Json{{"messages", messages}, {"thinking", {{"type", "disabled"}}}}.dump());
            hits[i] = cached(Json::parse(answer.body)["usage"]);
        });
    }
    for (std::thread& fork : forks) fork.join();
    for (const int n : hits) EXPECT_GT(n, 50);
}

class DiskCache : public testing::Test {
  protected:
    ServiceOptions options() {
        ServiceOptions o = one_slot();
        o.kv_directory = directory.path() / "kv";
        o.kv_policy.min_tokens = 4;
        return o;
    }
    test::TemporaryDirectory directory;
};

TEST_F(DiskCache, ConversationsOutliveTheServer) {
    Client plain(kPlain), thinking, tools(Json{{"tools", kTools}});
    {
        const ScriptedServer server(talk(), options());
        plain.ask(server, "one");
        thinking.ask(server, "think");
        tools.ask(server, "list");
        tools.give_result(server, "a b");
    }
    const ScriptedServer server(talk(), options());
    const auto goes_on = [&](Client& client, const std::string& text) {
        const int known = client.n_known();
        EXPECT_GE(cached(client.ask(server, text)), known) << text;
    };
    goes_on(plain, "two");
    goes_on(thinking, "again");  // although the client returns its reasoning, the prompt does not show it
    goes_on(tools, "think");     // the call's blanks are as sampled
    EXPECT_EQ(tools.answer()["content"], "shown");
    EXPECT_GT(server.metric("ds4_kv_disk_files"), 0);
}

TEST_F(DiskCache, BadFilesAreAMiss) {
    Client client(kPlain);
    {
        const ScriptedServer server(talk(), options());
        client.ask(server, "one");
    }
    for (const auto& file : std::filesystem::directory_iterator(directory.path() / "kv")) {
        if (file.path().extension() == ".kv") std::filesystem::resize_file(file.path(), file.file_size() - 1);
    }
    const ScriptedServer server(talk(), options());
    EXPECT_EQ(cached(client.ask(server, "two")), 0);
    EXPECT_EQ(client.answer()["content"], "answer two");
}

TEST_F(DiskCache, AColdPromptIsThereForTheNextServerAtOnce) {
    const std::string system(3000, 's');
    const auto body = [&](const std::string& text) {
        Json messages = {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", text}}};
        return Json{{"messages", messages}, {"thinking", {{"type", "disabled"}}}}.dump();
    };
    ServiceOptions o = options();
    const ScriptedServer first(talk(), o);
    ASSERT_EQ(first.post(kChat, body("one")).status, 200);
    for (int i = 0; i < 500 && first.metric("ds4_kv_disk_files") < 1; ++i) std::this_thread::sleep_for(10ms);
    // Beside the first, on the same directory: up to the task everything is there.
    const ScriptedServer second(talk(), o);
    EXPECT_GT(cached(Json::parse(second.post(kChat, body("two")).body)["usage"]), 300);
}

TEST(Queue, GoesByPriority) {
    Script script = talk();
    script.rules.push_back({"first" + kAnswers, words("first ", 600)});
    // Long enough for a client to note its turn before the next one is done.
    script.rules.push_back({"later" + kAnswers, words("later ", 300)});
    script.decode_us = 500;
    const ScriptedServer server(script, one_slot());
    HttpClient running(server.port());
    running.request("POST", kChat,
                    Json{{"messages", {{{"role", "user"}, {"content", "first"}}}},
                         {"stream", true},
                         {"thinking", {{"type", "disabled"}}}}
                        .dump());
    ASSERT_TRUE(running.read_until("first"));
    std::vector<std::string> order;
    std::mutex mutex;
    std::vector<std::thread> clients;
    const auto waits = [&](std::size_t n) {
        while (Json::parse(server.get("/v1/status").body)["queue"]["waiting"] < n)
            std::this_thread::sleep_for(2ms);
    };
    for (const std::string priority : {"u=6", "u=3", "i, u=0"}) {
        clients.emplace_back([&, priority] {
            Client client(kPlain);
            client.ask(server, "later", "Priority: " + priority + "\r\n");
            const std::lock_guard lock(mutex);
            order.push_back(priority);
        });
        waits(clients.size());
    }
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(order, (std::vector<std::string>{"i, u=0", "u=3", "u=6"}));
}

// Room for one and a half answers: both come out whole, one after waiting.
TEST(Memory, AnswersThatDoNotFitTogetherComeOneAfterTheOther) {
    Script script;
    const std::string text = words("much ", 700);
    script.rules = {{"left" + kAnswers, "L" + text}, {"right" + kAnswers, "R" + text}};
    script.context = 1200;
    script.decode_us = 200;
    ServiceOptions options;
    options.scheduler.context = 1200;
    options.scheduler.kv_bytes = 1'300'000;  // the scripted engine takes 1000 bytes a token
    const ScriptedServer server(script, options);
    std::array<std::string, 2> answers;
    std::vector<std::thread> clients;
    for (std::size_t i = 0; i < 2; ++i) {
        clients.emplace_back([&, i] {
            Client client(kPlain);
            client.ask(server, i == 0 ? "left" : "right");
            answers[i] = client.answer()["content"];
        });
    }
    std::size_t most = 0;
    std::atomic<bool> is_done{false};
    std::thread watcher([&] {
        while (!is_done) {
            most = std::max(most, static_cast<std::size_t>(server.metric("ds4_kv_bytes")));
            std::this_thread::sleep_for(1ms);
        }
    });
    for (std::thread& client : clients) client.join();
    is_done = true;
    watcher.join();
    EXPECT_EQ(answers[0], "L" + text);
    EXPECT_EQ(answers[1], "R" + text);
    EXPECT_LE(most, options.scheduler.kv_bytes);
}

TEST(Memory, ABudgetWithoutRoomForASessionIsRefused) {
    ServiceOptions options;
    options.scheduler.kv_bytes = 1'000'000;
    try {
        const ScriptedServer server(talk(), options);
        FAIL() << "must throw";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("--kv-ram-mb 1 holds no session of --ctx 32768"),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace ds4::server
