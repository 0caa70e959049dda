// Anthropic's Messages: what is read, and every byte of what is written.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "chat/render.h"
#include "server/anthropic_messages.h"
#include "server/fields.h"

namespace ds4::server {
namespace {

using chat::Role;
using Kind = GenerationEvent::Kind;
using Json = nlohmann::json;

GenerationRequest read(const std::string& body) {
    return parse_anthropic_messages(parse_body(body)).request;
}

GenerationRequest read_with(const std::string& members) {
    return read(R"({"messages":[{"role":"user","content":"hi"}],)" + members + "}");
}

std::string fault(const std::string& body) {
    try {
        (void)read(body);
        return "no error";
    } catch (const ApiError& error) {
        return error.param;
    }
}

std::string normal(const std::string& text) {
    static const std::regex id("msg_[0-9a-f]{24}");
    return std::regex_replace(text, id, "ID");
}

// What Claude Code sends.
const std::string kAgent =
    R"({"model":"m","max_tokens":32000,"stream":true,"system":[{"type":"text","text":"x-anthropic-billing: 1"},)"
    R"({"type":"text","text":"You are.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Be brief."}],)"
    R"("messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>"},{"type":"text","text":"task"}]},)"
    R"({"role":"system","content":"Agent types"},)"
    R"({"role":"assistant","content":[{"type":"thinking","thinking":"why ","signature":"s"},{"type":"redacted_thinking","data":"x"},)"
    R"({"type":"text","text":""},{"type":"text","text":"On it."},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"b":1,"a":2.50}}]},)"
    R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","is_error":true,)"
    R"("content":[{"type":"text","text":"out"},{"type":"image","source":{}}]},{"type":"text","text":"go on"}]}],)"
    R"("tools":[{"name":"Bash","description":"d","input_schema":{"type":"object"},"cache_control":{},"eager_input_streaming":true},)"
    R"({"type":"web_search_20250305","name":"web_search"}],"thinking":{"type":"adaptive"},"output_config":{"effort":"high"},)"
    R"("metadata":{"user_id":"u"},"context_management":{"edits":[]}})";

TEST(AnthropicRequest, ReadsWhatClaudeCodeSends) {
    const GenerationRequest request = read(kAgent);
    const auto& messages = request.conversation.messages;
    ASSERT_EQ(messages.size(), 6u);
    EXPECT_EQ(messages[0].role, Role::system);
    EXPECT_EQ(messages[0].content, "You are.\nBe brief.");
    EXPECT_EQ(messages[1].content, "<system-reminder>\n\ntask");
    EXPECT_EQ(messages[2].role, Role::system);
    EXPECT_EQ(messages[3].reasoning, "why ");
    EXPECT_EQ(messages[3].content, "On it.");
    EXPECT_EQ(messages[3].tool_calls.at(0).arguments, R"({"b": 1, "a": 2.5})");
    EXPECT_EQ(messages[4].role, Role::tool);
    EXPECT_EQ(messages[4].content, "out\n\n[Unsupported image]");
    EXPECT_EQ(messages[5].content, "go on");
    ASSERT_EQ(request.conversation.tools.size(), 1u);
    EXPECT_EQ(request.conversation.tools[0],
              R"({"name": "Bash", "description": "d", "parameters": {"type": "object"}})");
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::thinking);
    EXPECT_TRUE(request.stream);
    EXPECT_EQ(request.max_tokens, 32000);
    EXPECT_STREQ(request.call_id_prefix, "toolu_");
    // The mid-conversation system text is part of the first user turn, so the head of the prompt never
    // changes.
    const std::string text = chat::to_text(chat::render(request.conversation));
    EXPECT_NE(text.find("task\n\nAgent types<｜Assistant｜>"), std::string::npos);
}

TEST(AnthropicRequest, ReadsEveryOption) {
    const GenerationRequest request = read_with(
        R"("temperature":0.3,"top_k":5,"stop_sequences":["a","b"],"thinking":{"type":"enabled","budget_tokens":1024},)"
        R"("tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},)"
        R"("tools":[{"name":"f","input_schema":{"type":"object"}}])");
    EXPECT_EQ(request.stop.size(), 2u);
    EXPECT_EQ(request.thinking_budget, 1024);
    EXPECT_EQ(request.tool_choice, ToolChoice::named);
    EXPECT_EQ(request.tool_name, "f");
    EXPECT_FALSE(request.parallel_tool_calls);
    EXPECT_EQ(read_with(R"("thinking":{"type":"disabled"},"output_config":{"effort":"max"})")
                  .conversation.options.thinking,
              chat::ThinkingMode::chat);
    EXPECT_EQ(read_with(R"("output_config":{"effort":"max"})").conversation.options.effort,
              chat::Effort::max);
    EXPECT_TRUE(read_with(R"("tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"none"})")
                    .conversation.tools.empty());
    EXPECT_EQ(parse_count_tokens(parse_body(kAgent)).conversation.messages.size(), 6u);
}

TEST(AnthropicRequest, AFinalAssistantMessageIsContinued) {
    const GenerationRequest request = read(
        R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"The answer is \n"}]})");
    EXPECT_TRUE(request.conversation.messages.back().is_prefix);
    EXPECT_TRUE(chat::to_text(chat::render(request.conversation)).ends_with("The answer is"));
}

TEST(AnthropicRequest, NamesTheFieldAtFault) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"({})", "messages"},
        {R"({"messages":[]})", "messages"},
        {R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role"},
        {R"({"messages":[{"role":"user","content":[{"text":"x"}]}]})", "messages[0].content[0].type"},
        {R"({"messages":[{"role":"user","content":[{"type":"image"}]}]})", "messages[0].content[0].type"},
        {R"({"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]}]})",
         "messages[0].content[0].tool_use_id"},
        {R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"}]}]})",
         "messages"},
        {R"({"messages":[{"role":"user","content":"x"}],"max_tokens":0})", "max_tokens"},
        {R"({"messages":[{"role":"user","content":"x"}],"system":5})", "system"},
        {R"({"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f"}]})", "tools[0].input_schema"},
        {R"({"messages":[{"role":"user","content":"x"}],"tools":[{"name":"","input_schema":{}}]})",
         "tools[0].name"},
        {R"({"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"any"}})", "tool_choice"},
        {R"({"messages":[{"role":"user","content":"x"}],"thinking":{"type":"enabled","budget_tokens":-1}})",
         "thinking.budget_tokens"},
    };
    for (const auto& [body, field] : cases) EXPECT_EQ(fault(body), field) << body;
}

// ---- writing ----

std::string sse(const std::string& type, const std::string& members) {
    return "event: " + type + "\ndata: {\"type\":\"" + type + "\"" + (members.empty() ? "" : "," + members) +
           "}\n\n";
}

const std::string kStart =
    sse("message_start",
        R"("message":{"id":"ID","type":"message","role":"assistant","model":"m","content":[],)"
        R"("stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_read_input_tokens":0,)"
        R"("cache_creation_input_tokens":0,"output_tokens":0}})");
const std::string kUsage =
    R"("usage":{"input_tokens":5,"cache_read_input_tokens":4,"cache_creation_input_tokens":0,"output_tokens":20})";

TEST(AnthropicWriter, WritesAStreamByteForByte) {
    const auto writer = make_anthropic_writer("m");
    std::string out = writer->start(9);
    out += writer->keepalive();
    out += writer->event(0, {Kind::reasoning, "R", {}, {}});
    out += writer->event(0, {Kind::reasoning, "S", {}, {}});
    out += writer->event(0, {Kind::content, "C", {}, {}});
    out += writer->event(0, {Kind::call_begin, "Bash", "toolu_1", {}});
    out += writer->event(0, {Kind::arguments, "{\"a\":1}", {}, {}});
    out += writer->event(0, {Kind::call_end, "{\"a\":1}", "toolu_1", {}});
    out += writer->finish(0, {Finish::Reason::tool_calls, {}});
    out += writer->end({9, 4, 20, 5});
    const auto delta = [](int index, const std::string& members) {
        return sse("content_block_delta", "\"index\":" + std::to_string(index) + ",\"delta\":" + members);
    };
    EXPECT_EQ(
        normal(out),
        kStart + sse("ping", "") +
            sse("content_block_start",
                R"("index":0,"content_block":{"type":"thinking","thinking":"","signature":""})") +
            delta(0, R"({"type":"thinking_delta","thinking":"R"})") +
            delta(0, R"({"type":"thinking_delta","thinking":"S"})") +
            delta(0, R"({"type":"signature_delta","signature":"ID"})") +
            sse("content_block_stop", R"("index":0)") +
            sse("content_block_start", R"("index":1,"content_block":{"type":"text","text":""})") +
            delta(1, R"({"type":"text_delta","text":"C"})") + sse("content_block_stop", R"("index":1)") +
            sse("content_block_start",
                R"("index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"Bash","input":{}})") +
            delta(2, R"({"type":"input_json_delta","partial_json":"{\"a\":1}"})") +
            sse("content_block_stop", R"("index":2)") +
            sse("message_delta", R"("delta":{"stop_reason":"tool_use","stop_sequence":null},)" + kUsage) +
            sse("message_stop", ""));
}

TEST(AnthropicWriter, NeverOnlyThinks) {
    const auto writer = make_anthropic_writer("m");
    (void)writer->start(9);
    (void)writer->event(0, {Kind::reasoning, "R", {}, {}});
    const std::string finish = normal(writer->finish(0, {Finish::Reason::length, {}}));
    EXPECT_TRUE(finish.ends_with(
        sse("content_block_stop", R"("index":0)") +
        sse("content_block_start", R"("index":1,"content_block":{"type":"text","text":""})") +
        sse("content_block_stop", R"("index":1)")));
    EXPECT_NE(writer->end({}).find(R"("stop_reason":"max_tokens")"), std::string::npos);
    Choice choice;
    choice.reasoning = "R";
    const Json body = Json::parse(make_anthropic_writer("m")->body({&choice, 1}, {}));
    EXPECT_EQ(body["content"][1], Json::parse(R"({"type":"text","text":""})"));
}

TEST(AnthropicWriter, WritesWholeAnswersAndErrors) {
    Choice choice;
    choice.content = "C";
    choice.calls = {{"toolu_1", "Bash", "{\"a\":1}"}};
    choice.finish = {Finish::Reason::stop_sequence, "END"};
    EXPECT_EQ(
        normal(make_anthropic_writer("m")->body({&choice, 1}, {9, 4, 20, 5})),
        R"({"id":"ID","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"C"},)"
        R"({"type":"tool_use","id":"toolu_1","name":"Bash","input":{"a":1}}],"stop_reason":"stop_sequence",)"
        R"("stop_sequence":"END",)" +
            kUsage + "}");
    EXPECT_EQ(make_anthropic_writer("m")->fail({ErrorKind::internal, "gone"}),
              sse("error", R"("error":{"type":"api_error","message":"gone"})"));
}

}  // namespace
}  // namespace ds4::server
