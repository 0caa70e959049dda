// When a conversation is written to the disk (api.md 9.3): what the files say after a server has ended.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "kv/verify.h"
#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using kv::Reason;
using test::call_block;
using test::kAnswers;
using test::kThinks;
using test::Script;
using test::ScriptedServer;
using testing::AllOf;
using testing::Each;
using testing::Gt;
using testing::IsEmpty;
using testing::Lt;
using testing::SizeIs;
using Json = nlohmann::json;

std::string words(const std::string& word, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += word;
    return text;
}

Script talk() {
    return {{{"one" + kAnswers, words("answer ", 40)},
             {"two" + kAnswers, words("another ", 40)},
             {"call" + kThinks,
              words("think ", 40) + "</think>Look." + call_block("run", {{"command", words("much ", 60)}})}}};
}

struct Usage {
    int n_prompt = 0, n_known = 0;
};

class Moments : public testing::Test {
  protected:
    Moments() {
        options.scheduler.n_slots = 1;
        options.kv_directory = directory.path() / "kv";
        options.kv_policy.min_tokens = 16;
        options.kv_policy.continued_interval = 50;
        options.kv_policy.boundary_align = 0;
    }

    static Usage ask(const ScriptedServer& server, const std::string& system, const std::string& text,
                     const Json& more) {
        Json body = {
            {"messages", {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", text}}}}};
        body.update(more);
        const auto answer = server.post("/v1/chat/completions", body.dump());
        EXPECT_EQ(answer.status, 200) << answer.body;
        const Json usage = Json::parse(answer.body).at("usage");
        const int n_prompt = usage.at("prompt_tokens");
        return {n_prompt, n_prompt + usage.at("completion_tokens").get<int>() - 1};
    }

    // Lengths of the files, by the moment of writing.
    std::map<Reason, std::vector<int>> files() const {
        std::map<Reason, std::vector<int>> lengths;
        const kv::Directory all = stored();
        for (const auto& [name, entry] : all.entries())
            lengths[entry.header.reason].push_back(static_cast<int>(entry.header.n_tokens));
        for (auto& [reason, some] : lengths) std::sort(some.begin(), some.end());
        return lengths;
    }
    kv::Directory stored() const {
        return kv::Directory({options.kv_directory, ~std::uint64_t{0}, [] { return std::uint64_t{0}; },
                              [](const std::string& line) { ADD_FAILURE() << line; }});
    }

    const test::TemporaryDirectory directory;
    ServiceOptions options;
    const Json plain = {{"thinking", {{"type", "disabled"}}}};
};

TEST_F(Moments, AreFour) {
    Usage first, second;
    {
        const ScriptedServer server(talk(), options);
        first = ask(server, words("house ", 80), "one", plain);
        second = ask(server, words("garden ", 80), "two", plain);
    }
    auto at = files();
    // At the anchors, before the task's text.
    EXPECT_THAT(at[Reason::cold], AllOf(SizeIs(2), Each(AllOf(Gt(60), Lt(first.n_prompt)))));
    // The first session made way for the second, which was there when the server ended.
    EXPECT_THAT(at[Reason::evict], AllOf(SizeIs(1), Each(testing::Ge(first.n_known))));
    EXPECT_THAT(at[Reason::shutdown], AllOf(SizeIs(1), Each(testing::Ge(second.n_known))));
    // In the prompt and in the answer.
    EXPECT_THAT(at[Reason::continued], Each(testing::ResultOf([](int n) { return n % 50; }, 0)));
    EXPECT_THAT(at[Reason::continued], testing::Contains(50));
    EXPECT_THAT(at[Reason::continued], testing::Contains(Gt(first.n_prompt)));
}

TEST_F(Moments, CanBeSwitchedOff) {
    options.kv_policy.cold_max = 0;
    options.kv_policy.continued_interval = 0;
    {
        const ScriptedServer server(talk(), options);
        ask(server, words("house ", 80), "one", plain);
    }
    auto at = files();
    EXPECT_THAT(at[Reason::cold], IsEmpty());
    EXPECT_THAT(at[Reason::continued], IsEmpty());
    EXPECT_THAT(at[Reason::shutdown], SizeIs(1));
}

TEST_F(Moments, ShortConversationsAreNotKept) {
    options.kv_policy.min_tokens = 1000;
    {
        const ScriptedServer server(talk(), options);
        ask(server, words("house ", 80), "one", plain);
        ask(server, words("garden ", 80), "two", plain);
    }
    EXPECT_THAT(files(), IsEmpty());
}

// A cold checkpoint where a continued one is due, too, is written once.
TEST_F(Moments, ColdAndContinuedAtOnePlace) {
    options.kv_policy.continued_interval = 0;
    {
        const ScriptedServer server(talk(), options);
        ask(server, words("house ", 80), "one", plain);
    }
    const int anchor = files()[Reason::cold].at(0);
    std::filesystem::remove_all(options.kv_directory);
    options.kv_policy.continued_interval = anchor;
    {
        const ScriptedServer server(talk(), options);
        ask(server, words("house ", 80), "one", plain);
    }
    auto at = files();
    EXPECT_THAT(at[Reason::cold], testing::ElementsAre(anchor));
    EXPECT_THAT(at[Reason::continued], testing::Not(testing::Contains(anchor)));
}

TEST_F(Moments, NoneInsideACall) {
    options.kv_policy.continued_interval = 7;
    const Json tools = {{"tools", Json::parse(R"([{"type":"function","function":{"name":"run","parameters":
        {"type":"object","properties":{"command":{"type":"string"}}}}}])")}};
    Usage usage;
    {
        const ScriptedServer server(talk(), options);
        usage = ask(server, words("house ", 20), "call", tools);
    }
    const std::string dsml(chat::protocol::dsml);
    const kv::Directory all = stored();
    int n_in_answer = 0;
    for (const auto& [name, entry] : all.entries()) {
        if (entry.header.reason != Reason::continued) continue;
        const std::string key = kv::verify_chain(all, name).key;
        const std::size_t answer = key.find(kThinks);
        if (answer == std::string::npos) continue;
        ++n_in_answer;
        const bool is_open = key.find("<" + dsml + "tool_calls>", answer) != std::string::npos;
        const bool is_closed = key.find("</" + dsml + "tool_calls>", answer) != std::string::npos;
        EXPECT_EQ(is_open, is_closed) << entry.header.n_tokens;
    }
    EXPECT_GT(n_in_answer, 3);
}

}  // namespace
}  // namespace ds4::server
