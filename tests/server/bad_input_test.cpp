// What no client should send. Each gets a 4xx in its dialect's shape, and the next good request works.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using test::HttpAnswer;
using test::kThinks;
using test::ScriptedServer;
using Json = nlohmann::json;

struct Case {
    std::string path, body;
    int status = 400;
    std::string says;  // in the message
};

std::string repeat(const std::string& text, std::size_t n) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += text;
    return out;
}

const std::vector<std::string> kPaths = {"/v1/chat/completions", "/v1/completions", "/v1/responses",
                                         "/v1/messages"};

// A body that is good but for these members (JSON text).
std::string body_with(const std::string& path, const std::string& members) {
    const std::string prompt = path == "/v1/completions" ? R"("prompt":"hi")"
                               : path == "/v1/responses" ? R"("input":"hi")"
                                                         : R"("messages":[{"role":"user","content":"hi"}])";
    return "{" + prompt + (members.empty() ? "" : "," + members) + "}";
}

std::vector<Case> cases() {
    std::vector<Case> all;
    for (const std::string& path : kPaths) {
        all.push_back({path, "", 400, ""});
        all.push_back({path, "{\"a\": nope}", 400, "byte 8"});
        all.push_back({path, "[]", 400, "object"});
        all.push_back({path, "null", 400, "object"});
        all.push_back({path, body_with(path, "") + "x", 400, ""});
        all.push_back({path, body_with(path, "\"temperature\": NaN"), 400, ""});
        all.push_back({path, body_with(path, "\"temperature\": 1e999"), 400, ""});
        all.push_back({path, body_with(path, "\"temperature\": \"hot\""), 400, "temperature"});
        all.push_back(
            {path, body_with(path, "\"x\": " + repeat("[", 1000) + repeat("]", 1000)), 400, "deep"});
        all.push_back({path, body_with(path, "\"x\": \"\xff\xfe\""), 400, ""});
        all.push_back({path, body_with(path, "\"stream\": \"yes\""), 400, "stream"});
        all.push_back(
            {path, body_with(path, "\"tools\": 7"), path == "/v1/completions" ? 200 : 400, "tools"});
        const std::string limit = path == "/v1/responses" ? "max_output_tokens" : "max_tokens";
        all.push_back({path, body_with(path, "\"" + limit + "\": -5"), 400, limit});
        all.push_back({path, body_with(path, "\"" + limit + "\": 0"), 400, limit});
        all.push_back({path, body_with(path, "\"" + limit + "\": 1.5"), 400, limit});
        if (path != "/v1/responses") {
            const std::string stop = path == "/v1/messages" ? "stop_sequences" : "stop";
            all.push_back({path, body_with(path, "\"" + stop + "\": [" + repeat("\"a\",", 9999) + "\"a\"]"),
                           400, stop});
            all.push_back({path, body_with(path, "\"" + stop + "\": [1]"), 400, stop});
        }
    }
    for (const std::string path : {"/v1/chat/completions", "/v1/completions"}) {
        for (const std::string n : {"1000000", "0", "-1", "\"many\"", "99999999999999999999"}) {
            all.push_back({path, body_with(path, "\"n\": " + n), 400, "n"});
        }
    }
    const std::string chat = "/v1/chat/completions", messages = "/v1/messages", responses = "/v1/responses";
    for (const std::string& path : {chat, messages}) {
        all.push_back({path, "{}", 400, "messages"});
        all.push_back({path, R"({"messages":[]})", 400, "messages"});
        all.push_back({path, R"({"messages":"hi"})", 400, "messages"});
        all.push_back({path, R"({"messages":[7]})", 400, "messages[0]"});
        all.push_back({path, R"({"messages":[{"role":"wizard","content":"x"}]})", 400, "role"});
        all.push_back({path, R"({"messages":[{"content":"x"}]})", 400, "role"});
        all.push_back({path, R"({"messages":[{"role":"user","content":5}]})", 400, "content"});
    }
    all.push_back({chat, body_with(chat, R"("top_logprobs": 21, "logprobs": true)"), 400, "top_logprobs"});
    all.push_back({chat, body_with(chat, R"("tool_choice": "required")"), 400, "tool_choice"});
    all.push_back({chat, body_with(chat, R"("tools":[{"type":"function","function":{}}])"), 400, "name"});
    all.push_back(
        {chat, R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})",
         400, "image"});
    all.push_back({responses, R"({"input":[{"type":"mystery"}]})", 400, "input[0]"});
    all.push_back(
        {responses, R"({"input":"x","previous_response_id":"resp_1"})", 400, "previous_response_id"});
    all.push_back({responses, R"({"input":"x","background":true})", 400, "background"});
    all.push_back(
        {messages,
         R"({"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"nobody","content":"x"}]}]})",
         400, ""});
    all.push_back({"/v1/completions", R"({"prompt":[1,2,99999999]})", 400, "prompt"});
    all.push_back({"/v1/completions", R"({"prompt":[]})", 400, "prompt"});
    all.push_back({"/v1/completions", R"({"prompt":"x","suffix":"y"})", 400, "suffix"});
    all.push_back({"/tokenize", "{}", 400, "content"});
    all.push_back({"/detokenize", R"({"tokens":[-1]})", 400, "tokens"});
    all.push_back({"/v1/nowhere", "{}", 404, "/v1/nowhere"});
    return all;
}

void expect_error_shape(const Case& bad, const HttpAnswer& answer) {
    const std::string shown = bad.path + " " + bad.body.substr(0, 120) + " -> " + answer.body.substr(0, 300);
    ASSERT_EQ(answer.status, bad.status) << shown;
    if (answer.status == 200) return;
    const Json body = Json::parse(answer.body);
    const Json& error = body.at("error");
    EXPECT_TRUE(error.at("message").is_string()) << shown;
    EXPECT_NE(error.at("message").get<std::string>().find(bad.says), std::string::npos) << shown;
    if (bad.path.starts_with("/v1/messages")) {
        EXPECT_EQ(body.at("type"), "error") << shown;
        EXPECT_EQ(error.at("type"), "invalid_request_error") << shown;
    } else {
        EXPECT_EQ(error.at("type"), "invalid_request_error") << shown;
        EXPECT_TRUE(error.contains("param") && error.contains("code")) << shown;
    }
    EXPECT_TRUE(answer.headers.contains("x-request-id")) << shown;
}

TEST(BadInput, EachGetsItsErrorAndTheNextRequestWorks) {
    const ScriptedServer server({{{"hi" + kThinks, "r</think>hello"}}});
    for (const Case& bad : cases()) {
        expect_error_shape(bad, server.post(bad.path, bad.body));
        if (HasFatalFailure()) return;
    }
    for (const std::string& path : kPaths) EXPECT_EQ(server.post(path, body_with(path, "")).status, 200);
    EXPECT_TRUE(server.becomes_idle(std::chrono::seconds(1)));
}

TEST(BadInput, AHundredMegabytesAreRefusedInEachDialect) {
    const ScriptedServer server({{{"hi" + kThinks, "r</think>hello"}}});
    const std::string body(100'000'000, ' ');
    for (const std::string& path : kPaths) {
        const HttpAnswer answer = server.post(path, body);
        EXPECT_EQ(answer.status, 413) << path;
        const std::string type = Json::parse(answer.body)["error"]["type"];
        EXPECT_EQ(type, path == "/v1/messages" ? "request_too_large" : "invalid_request_error");
        EXPECT_EQ(server.post(path, body_with(path, "")).status, 200);
    }
}

TEST(BadInput, DuplicateKeysTakeTheLast) {
    const ScriptedServer server({{{"second" + kThinks, "r</think>yes"}}});
    const HttpAnswer answer = server.post(
        "/v1/chat/completions",
        R"({"messages":[{"role":"user","content":"first"}],"messages":[{"role":"user","content":"second"}]})");
    EXPECT_EQ(Json::parse(answer.body)["choices"][0]["message"]["content"], "yes");
}

TEST(BadInput, PromptsThatDoNotFitSayItInTheClientsWords) {
    test::Script script{{{"hi" + kThinks, "r</think>hello"}}};
    script.context = 100;
    const ScriptedServer server(script);
    const std::string words = repeat("several words of text ", 100);
    const Json chat = Json::parse(
        server
            .post("/v1/chat/completions", Json{{"messages", {{{"role", "user"}, {"content", words}}}}}.dump())
            .body);
    EXPECT_EQ(chat["error"]["code"], "context_length_exceeded");
    EXPECT_EQ(chat["error"]["param"], "messages");
    EXPECT_NE(chat["error"]["message"].get<std::string>().find("maximum context length is 100 tokens"),
              std::string::npos);
    const Json responses = Json::parse(server.post("/v1/responses", Json{{"input", words}}.dump()).body);
    EXPECT_EQ(responses["error"]["code"], "context_length_exceeded");
    EXPECT_EQ(responses["error"]["param"], "input");
    const Json anthropic = Json::parse(
        server
            .post("/v1/messages",
                  Json{{"messages", {{{"role", "user"}, {"content", words}}}}, {"stream", true}}.dump())
            .body);
    EXPECT_TRUE(anthropic["error"]["message"].get<std::string>().starts_with("prompt is too long: "))
        << anthropic;
    EXPECT_NE(anthropic["error"]["message"].get<std::string>().find("> 100 maximum"), std::string::npos);
}

TEST(BadInput, ForgedControlTokensStayText) {
    const ScriptedServer server({{{"hi" + kThinks, "r</think>hello"}}});
    const Json plain = Json::parse(server.post("/tokenize", R"({"content":"<｜User｜>"})").body);
    const Json special =
        Json::parse(server.post("/tokenize", R"({"content":"<｜User｜>","parse_special":true})").body);
    EXPECT_EQ(special["count"], 1);
    EXPECT_GT(plain["count"].get<int>(), 1);
    EXPECT_EQ(
        Json::parse(server.post("/detokenize", Json{{"tokens", plain["tokens"]}}.dump()).body)["content"],
        "<｜User｜>");
}

}  // namespace
}  // namespace ds4::server
