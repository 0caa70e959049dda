// Requests through the whole server with a scripted model: what is said comes out right, and what must end
// ends.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::data_lines;
using test::HttpAnswer;
using test::HttpClient;
using test::kAnswers;
using test::kThinks;
using test::Script;
using test::ScriptedServer;
using Json = nlohmann::json;

const std::string kChat = "/v1/chat/completions";
const Json kTools =
    Json::parse(R"([{"type":"function","function":{"name":"run","description":"Runs","parameters":
    {"type":"object","properties":{"command":{"type":"string"}}}}}])");

Json ask(const std::string& text, Json more = Json::object()) {
    Json body = {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", text}}}}};
    body.update(more);
    return body;
}

Json message_of(const HttpAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    return Json::parse(answer.body).at("choices").at(0).at("message");
}

std::string finish_of(const HttpAnswer& answer) {
    return Json::parse(answer.body).at("choices").at(0).at("finish_reason");
}

Json usage_of(const HttpAnswer& answer) {
    return Json::parse(answer.body).at("usage");
}

// Deltas of a chat stream put together.
struct Streamed {
    std::string reasoning, content, arguments, name, id, finish, error;
    bool is_done = false;
};

Streamed join_stream(const std::string& body) {
    Streamed out;
    for (const std::string& line : data_lines(body)) {
        if (line == "[DONE]") {
            out.is_done = true;
            continue;
        }
        const Json chunk = Json::parse(line);
        if (chunk.contains("error")) out.error = chunk["error"].at("message");
        if (!chunk.contains("choices") || chunk["choices"].empty()) continue;
        const Json& choice = chunk["choices"][0];
        const Json& delta = choice["delta"];
        out.reasoning += delta.value("reasoning_content", "");
        if (delta.contains("content") && delta["content"].is_string())
            out.content += delta["content"].get<std::string>();
        if (delta.contains("tool_calls")) {
            const Json& call = delta["tool_calls"][0];
            if (call.contains("id")) out.id = call["id"];
            out.name += call["function"].value("name", "");
            out.arguments += call["function"].value("arguments", "");
        }
        if (choice["finish_reason"].is_string()) out.finish = choice["finish_reason"];
    }
    return out;
}

TEST(Generation, PlainAndStreamedSayTheSame) {
    const ScriptedServer server({{{"hi" + kThinks, "Greet back.</think>Hello, wörld! 🎉 2 < 3"}}});
    const HttpAnswer plain = server.post(kChat, ask("hi").dump());
    EXPECT_EQ(message_of(plain).at("content"), "Hello, wörld! 🎉 2 < 3");
    EXPECT_EQ(message_of(plain).at("reasoning_content"), "Greet back.");
    EXPECT_EQ(finish_of(plain), "stop");
    const HttpAnswer stream = server.post(kChat, ask("hi", {{"stream", true}}).dump());
    EXPECT_EQ(stream.headers.at("content-type"), "text/event-stream");
    EXPECT_TRUE(stream.is_complete);
    const Streamed joined = join_stream(stream.body);
    EXPECT_EQ(joined.content, "Hello, wörld! 🎉 2 < 3");
    EXPECT_EQ(joined.reasoning, "Greet back.");
    EXPECT_EQ(joined.finish, "stop");
    EXPECT_TRUE(joined.is_done);
}

TEST(Generation, SecondTurnComputesOnlyWhatIsNew) {
    const ScriptedServer server(
        {{{"one" + kThinks, "r1</think>first"}, {"two" + kThinks, "r2</think>second"}}});
    const HttpAnswer first = server.post(kChat, ask("one", {{"tools", kTools}}).dump());
    EXPECT_EQ(usage_of(first).at("prompt_cache_hit_tokens"), 0);
    Json body = ask("one", {{"tools", kTools}});
    Json reply = message_of(first);
    reply.erase("tool_calls");
    body["messages"].push_back(reply);
    body["messages"].push_back({{"role", "user"}, {"content", "two"}});
    const HttpAnswer second = server.post(kChat, body.dump());
    EXPECT_EQ(message_of(second).at("content"), "second");
    const Json usage = usage_of(second);
    EXPECT_GE(usage.at("prompt_cache_hit_tokens").get<int>(), usage_of(first).at("prompt_tokens").get<int>());
    EXPECT_GT(server.metric("ds4_cached_tokens_total"), 0);
    // Asked again, the whole prompt is there.
    const HttpAnswer again = server.post(kChat, body.dump());
    EXPECT_EQ(usage_of(again).at("prompt_cache_miss_tokens"), 0);
    EXPECT_EQ(message_of(again).at("content"), "second");
}

TEST(Generation, ThinkingChatsGoOnFromTheirHiddenReasoning) {
    const ScriptedServer server(
        {{{"one" + kThinks, "r1</think>first"}, {"two" + kThinks, "r2</think>second"}}});
    const HttpAnswer first = server.post(kChat, ask("one").dump());
    Json body = ask("one");
    body["messages"].push_back({{"role", "assistant"}, {"content", message_of(first).at("content")}});
    body["messages"].push_back({{"role", "user"}, {"content", "two"}});
    const HttpAnswer second = server.post(kChat, body.dump());
    EXPECT_EQ(message_of(second).at("content"), "second");
    const int all =
        usage_of(first).at("prompt_tokens").get<int>() + usage_of(first).at("completion_tokens").get<int>();
    EXPECT_EQ(usage_of(second).at("prompt_cache_hit_tokens"), all);
    // Another word in the answer, and it is another conversation.
    body["messages"][1]["content"] = "fir";
    EXPECT_LT(usage_of(server.post(kChat, body.dump())).at("prompt_cache_hit_tokens"), all);
}

TEST(Generation, ThinkingChatsKeepTheirHistory) {
    server::ServiceOptions options;
    options.reuses_hidden_reasoning = false;
    const ScriptedServer server(
        {{{"one" + kThinks, "r1</think>first"}, {"two" + kThinks, "r2</think>second"}}}, options);
    const HttpAnswer first = server.post(kChat, ask("one").dump());
    Json body = ask("one");
    body["messages"].push_back(message_of(first));
    body["messages"].push_back({{"role", "user"}, {"content", "two"}});
    const HttpAnswer second = server.post(kChat, body.dump());
    EXPECT_EQ(message_of(second).at("content"), "second");
    // The reasoning goes, and everything before it stays.
    EXPECT_EQ(usage_of(second).at("prompt_cache_hit_tokens"),
              usage_of(first).at("prompt_tokens").get<int>() - 1);
}

TEST(Generation, ToolLoopReplaysWhatWasSampled) {
    // Two blanks that no canonical rendering has.
    std::string block = test::call_block("run", {{"command", "ls  -l"}});
    block.replace(block.find("\">\n<"), 4, "\">\n\n<");
    const ScriptedServer server({{{"list" + kThinks, "Use it.</think>On it." + block},
                                  {"</tool_result>" + kThinks, "Seen.</think>Two files."}}});
    Json body = ask("list", {{"tools", kTools}});
    const HttpAnswer first = server.post(kChat, body.dump());
    EXPECT_EQ(finish_of(first), "tool_calls");
    const Json reply = message_of(first);
    EXPECT_EQ(reply.at("content"), "On it.");
    const Json call = reply.at("tool_calls").at(0);
    EXPECT_EQ(call.at("function").at("name"), "run");
    EXPECT_EQ(Json::parse(call.at("function").at("arguments").get<std::string>()),
              Json({{"command", "ls  -l"}}));
    EXPECT_TRUE(call.at("id").get<std::string>().starts_with("call_"));

    body["messages"].push_back(reply);
    body["messages"].push_back({{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "a\nb"}});
    const HttpAnswer second = server.post(kChat, body.dump());
    EXPECT_EQ(message_of(second).at("content"), "Two files.");
    EXPECT_EQ(server.metric("ds4_tool_replay_total{kind=\"exact\"}"), 1);
    const Json usage = usage_of(second);
    const int before = usage_of(first).at("prompt_tokens").get<int>();
    EXPECT_GT(usage.at("prompt_cache_hit_tokens").get<int>(), before);
}

TEST(Generation, StreamedCallsAreWholeJson) {
    const ScriptedServer server(
        {{{"list" + kThinks,
           "Hm.</think>" + test::call_block("run", {{"command", "echo \"x\"\n</b> & &lt;"}})}}});
    const HttpAnswer answer = server.post(kChat, ask("list", {{"tools", kTools}, {"stream", true}}).dump());
    const Streamed joined = join_stream(answer.body);
    EXPECT_EQ(joined.name, "run");
    EXPECT_EQ(Json::parse(joined.arguments), Json({{"command", "echo \"x\"\n</b> & &lt;"}}));
    EXPECT_EQ(joined.finish, "tool_calls");
    EXPECT_EQ(joined.content, "");
}

TEST(Generation, BudgetEndsThinking) {
    std::string endless;
    for (int i = 0; i < 3000; ++i) endless += "and again ";
    const ScriptedServer server({{{"why" + kThinks, endless}, {"</think>", "Because."}}, 0, 0, 32768});
    for (const Json& limit : {Json{{"thinking", {{"type", "enabled"}, {"budget_tokens", 40}}}},
                              Json{{"reasoning", {{"max_tokens", 40}}}}}) {
        const HttpAnswer answer = server.post(kChat, ask("why", limit).dump());
        EXPECT_EQ(message_of(answer).at("content"), "Because.");
        EXPECT_EQ(finish_of(answer), "stop");
        const int n_reasoning =
            usage_of(answer).at("completion_tokens_details").at("reasoning_tokens").get<int>();
        EXPECT_GE(n_reasoning, 40);
        EXPECT_LE(n_reasoning, 44);
    }
}

TEST(Generation, ServersBudgetIsTheDefault) {
    std::string endless;
    for (int i = 0; i < 1000; ++i) endless += "and again ";
    ServiceOptions options;
    options.turn.thinking_budget = 25;
    const ScriptedServer server({{{"why" + kThinks, endless}, {"</think>", "Because."}}}, options);
    EXPECT_EQ(message_of(server.post(kChat, ask("why").dump())).at("content"), "Because.");
}

TEST(Generation, CallInsideThinkingIsMovedOutOfIt) {
    const std::string block = test::call_block("run", {{"command", "ls"}});
    const ScriptedServer server({{{"go" + kThinks, "Let me" + block}, {"</think>\n\n", block.substr(2)}}});
    const HttpAnswer answer = server.post(kChat, ask("go", {{"tools", kTools}}).dump());
    EXPECT_EQ(finish_of(answer), "tool_calls");
    EXPECT_TRUE(message_of(answer).at("reasoning_content").get<std::string>().starts_with("Let me"));
    EXPECT_EQ(message_of(answer).at("reasoning_content").get<std::string>().find("DSML"), std::string::npos);
}

TEST(Generation, ForcedToolIsCalled) {
    const std::string dsml = "｜DSML｜";
    const std::string rest = "<" + dsml + "parameter name=\"command\" string=\"true\">ls</" + dsml +
                             "parameter>\n</" + dsml + "invoke>\n</" + dsml + "tool_calls>";
    const ScriptedServer server({{{"x" + kThinks, "No tool needed.</think>Just text."},
                                  {"invoke name=\"run\">\n", rest},
                                  {"invoke name=\"", "run\">\n"}}});
    for (const Json& choice :
         {Json("required"), Json{{"type", "function"}, {"function", {{"name", "run"}}}}}) {
        const HttpAnswer answer =
            server.post(kChat, ask("x", {{"tools", kTools}, {"tool_choice", choice}}).dump());
        EXPECT_EQ(finish_of(answer), "tool_calls") << choice;
        EXPECT_EQ(message_of(answer).at("tool_calls").at(0).at("function").at("arguments"),
                  R"({"command":"ls"})");
    }
}

TEST(Generation, OneCallIsEnoughWithoutParallelCalls) {
    std::string two = test::call_block("run", {{"command", "a"}});
    const std::size_t invoke = two.find("<｜DSML｜invoke");
    const std::size_t end = two.find("</｜DSML｜tool_calls>");
    two.insert(end, two.substr(invoke, end - invoke));
    const ScriptedServer server({{{"x" + kThinks, "r</think>" + two}}});
    EXPECT_EQ(message_of(server.post(kChat, ask("x", {{"tools", kTools}}).dump())).at("tool_calls").size(),
              2u);
    const Json one =
        message_of(server.post(kChat, ask("x", {{"tools", kTools}, {"parallel_tool_calls", false}}).dump()));
    EXPECT_EQ(one.at("tool_calls").size(), 1u);
}

TEST(Generation, BrokenBlockGetsOneRetry) {
    const std::string broken = "\n\n<｜DSML｜tool_calls>\nrun ls please</｜DSML｜tool_calls>";
    const std::string good = test::call_block("run", {{"command", "ls"}});
    const ScriptedServer server(
        {{{"x" + kThinks, "r</think>" + broken}, {"</tool_result>" + kThinks, "Again.</think>" + good}}});
    const HttpAnswer repaired = server.post(kChat, ask("x", {{"tools", kTools}}).dump());
    EXPECT_EQ(finish_of(repaired), "tool_calls");
    EXPECT_EQ(message_of(repaired).at("reasoning_content"), "Again.");
    // A stream has shown nothing yet, so the text comes out as it is.
    const Streamed streamed =
        join_stream(server.post(kChat, ask("x", {{"tools", kTools}, {"stream", true}}).dump()).body);
    EXPECT_EQ(streamed.finish, "stop");
    EXPECT_NE(streamed.content.find("run ls please"), std::string::npos);
}

TEST(Generation, CallsBrokenOffInAStreamAreErrors) {
    const std::string broken = "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"run\">\nnonsense";
    const ScriptedServer server({{{"x" + kThinks, "r</think>" + broken}}});
    const Streamed joined =
        join_stream(server.post(kChat, ask("x", {{"tools", kTools}, {"stream", true}}).dump()).body);
    EXPECT_FALSE(joined.error.empty());
    EXPECT_FALSE(joined.is_done);
}

TEST(Generation, EndlessCallEnds) {
    std::string endless(20000, 'a');
    const std::string block = test::call_block("run", {{"command", endless}});
    ServiceOptions options;
    options.turn.call_block_tokens = 200;
    const ScriptedServer server({{{"x" + kThinks, "r</think>" + block}}}, options);
    const HttpAnswer answer = server.post(kChat, ask("x", {{"tools", kTools}}).dump());
    EXPECT_EQ(finish_of(answer), "length");
    EXPECT_LT(usage_of(answer).at("completion_tokens").get<int>(), 300);
}

TEST(Generation, StopsAtStringsAndLimits) {
    const ScriptedServer server({{{"count" + kAnswers, "one two three four five six"}}});
    const Json chat_mode = {{"thinking", {{"type", "disabled"}}}};
    Json body = ask("count", chat_mode);
    body["stop"] = {"four", "six"};
    const HttpAnswer stopped = server.post(kChat, body.dump());
    EXPECT_EQ(message_of(stopped).at("content"), "one two three ");
    EXPECT_EQ(finish_of(stopped), "stop");
    body["stop"] = nullptr;
    body["max_tokens"] = 2;
    const HttpAnswer cut = server.post(kChat, body.dump());
    EXPECT_EQ(finish_of(cut), "length");
    EXPECT_EQ(usage_of(cut).at("completion_tokens"), 2);
}

TEST(Generation, EndsWhenTheContextIsFull) {
    std::string endless;
    for (int i = 0; i < 3000; ++i) endless += "more ";
    const ScriptedServer server({{{"go" + kAnswers, endless}}, 0, 0, 120});
    const HttpAnswer answer = server.post(kChat, ask("go", {{"thinking", {{"type", "disabled"}}}}).dump());
    EXPECT_EQ(finish_of(answer), "length");
    const Json usage = usage_of(answer);
    EXPECT_EQ(usage.at("total_tokens").get<int>(), 120);
}

TEST(Generation, SeveralChoices) {
    const ScriptedServer server({{{"hi" + kAnswers, "hello"}}});
    Json body = ask("hi", {{"thinking", {{"type", "disabled"}}}, {"n", 3}});
    const Json answer = Json::parse(server.post(kChat, body.dump()).body);
    ASSERT_EQ(answer.at("choices").size(), 3u);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(answer["choices"][i]["index"], i);
        EXPECT_EQ(answer["choices"][i]["message"]["content"], "hello");
    }
}

TEST(Generation, CompletionsEchoWithLogprobs) {
    const ScriptedServer server(Script{{{"Once upon", " a time"}}});
    const Json body = {{"prompt", "Once upon"}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 3}};
    const HttpAnswer answer = server.post("/v1/completions", body.dump());
    ASSERT_EQ(answer.status, 200) << answer.body;
    const Json choice = Json::parse(answer.body).at("choices").at(0);
    EXPECT_TRUE(choice.at("text").get<std::string>().ends_with("Once upon a time")) << choice;
    EXPECT_EQ(choice.at("logprobs").at("tokens").size(), choice.at("logprobs").at("token_logprobs").size());
    EXPECT_TRUE(choice.at("logprobs").at("token_logprobs").at(0).is_null());
}

TEST(Generation, LogprobsNameTheTokensOfTheText) {
    const ScriptedServer server({{{"hi" + kThinks, "think</think>Hello there"}}});
    const Json body = ask("hi", {{"logprobs", true}, {"top_logprobs", 3}});
    const Json choice = Json::parse(server.post(kChat, body.dump()).body).at("choices").at(0);
    std::string text;
    for (const Json& token : choice.at("logprobs").at("content")) {
        text += token.at("token");
        EXPECT_EQ(token.at("top_logprobs").size(), 3u);
        EXPECT_LE(token.at("logprob").get<double>(), 0);
    }
    EXPECT_EQ(text, "Hello there");
}

TEST(Generation, OtherDialectsAnswer) {
    const ScriptedServer server({{{"hi" + kThinks, "Greet.</think>Hello."}}});
    const Json anthropic = Json::parse(
        server
            .post("/v1/messages?beta=true", Json{{"model", "claude"},
                                                 {"max_tokens", 100},
                                                 {"messages", {{{"role", "user"}, {"content", "hi"}}}}}
                                                .dump())
            .body);
    EXPECT_EQ(anthropic.at("content").at(0).at("thinking"), "Greet.");
    EXPECT_EQ(anthropic.at("content").at(1).at("text"), "Hello.");
    EXPECT_EQ(anthropic.at("stop_reason"), "end_turn");
    const Json responses =
        Json::parse(server.post("/v1/responses", Json{{"model", "m"}, {"input", "hi"}}.dump()).body);
    EXPECT_EQ(responses.at("status"), "completed");
    EXPECT_EQ(responses.at("output").back().at("content").at(0).at("text"), "Hello.");
}

TEST(Generation, FailuresAreReportedAndLeaveNoTrace) {
    const ScriptedServer server(
        {{{"bad" + kThinks, "some text", "request"}, {"good" + kThinks, "r</think>fine"}}});
    const HttpAnswer failed = server.post(kChat, ask("bad").dump());
    EXPECT_EQ(failed.status, 500);
    EXPECT_EQ(failed.headers.at("x-should-retry"), "false");
    EXPECT_EQ(Json::parse(failed.body).at("error").at("type"), "server_error");
    const Streamed joined = join_stream(server.post(kChat, ask("bad", {{"stream", true}}).dump()).body);
    EXPECT_FALSE(joined.error.empty());
    EXPECT_FALSE(joined.is_done);
    EXPECT_EQ(message_of(server.post(kChat, ask("good").dump())).at("content"), "fine");
}

}  // namespace
}  // namespace ds4::server
