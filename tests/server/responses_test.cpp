// OpenAI's Responses: what is read, and the order and content of what is written.
#include "server/responses.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "server/fields.h"

namespace ds4::server {
namespace {

using chat::Role;
using Kind = GenerationEvent::Kind;
using Json = nlohmann::json;

GenerationRequest read(const std::string& body) {
    return parse_responses(parse_body(body)).request;
}

std::string fault(const std::string& body) {
    try {
        (void)read(body);
        return "no error";
    } catch (const ApiError& error) {
        return error.param;
    }
}

// What Codex sends.
const std::string kAgent =
    R"({"model":"m","stream":true,"instructions":null,"input":[)"
    R"({"type":"message","role":"developer","content":[{"type":"input_text","text":"dev 1"}]},)"
    R"({"type":"message","role":"developer","content":[{"type":"input_text","text":"dev 2"}]},)"
    R"({"type":"message","role":"user","content":[{"type":"input_text","text":"env"}]},)"
    R"({"role":"user","content":"task"},)"
    R"({"type":"reasoning","summary":[{"type":"summary_text","text":"why"}],"content":null,"encrypted_content":null},)"
    R"({"type":"message","role":"assistant","content":[{"type":"output_text","text":"On it."}],"status":"completed"},)"
    R"({"type":"function_call","name":"spawn","namespace":"agents","arguments":"{\"n\":1}","call_id":"call_1"},)"
    R"({"type":"function_call_output","call_id":"call_1","output":"done"},)"
    R"({"type":"custom_tool_call","status":"incomplete","name":"patch","input":"*** raw","call_id":"call_2"},)"
    R"({"type":"custom_tool_call_output","call_id":"call_2","output":[{"type":"input_text","text":"ok"},{"type":"input_image"}]}],)"
    R"("tools":[{"type":"function","name":"shell","description":"d","parameters":{"type":"object"},"strict":false},)"
    R"({"type":"namespace","name":"agents","tools":[{"type":"function","name":"spawn","parameters":{"type":"object"}}]},)"
    R"({"type":"custom","name":"patch","description":"free"},{"type":"web_search"}],"tool_choice":"auto",)"
    R"("parallel_tool_calls":true,"reasoning":{"summary":"auto"},"store":false,"include":["reasoning.encrypted_content"],)"
    R"("prompt_cache_key":"k","client_metadata":{}})";

TEST(ResponsesRequest, ReadsWhatCodexSends) {
    const GenerationRequest request = read(kAgent);
    const auto& messages = request.conversation.messages;
    ASSERT_EQ(messages.size(), 8u);
    EXPECT_EQ(messages[0].role, Role::system);
    EXPECT_EQ(messages[3].content, "task");
    // Reasoning, text and call are one turn.
    EXPECT_EQ(messages[4].reasoning, "why");
    EXPECT_EQ(messages[4].content, "On it.");
    EXPECT_EQ(messages[4].tool_calls.at(0).name, "agents__spawn");
    EXPECT_EQ(messages[5].tool_call_id, "call_1");
    EXPECT_EQ(messages[6].tool_calls.at(0).arguments, R"({"input": "*** raw"})");
    EXPECT_EQ(messages[7].content, "ok\n\n[Unsupported input_image]");
    ASSERT_EQ(request.conversation.tools.size(), 3u);
    EXPECT_EQ(request.conversation.tools[0],
              R"({"name": "shell", "description": "d", "parameters": {"type": "object"}, "strict": false})");
    EXPECT_EQ(request.conversation.tools[1],
              R"({"name": "agents__spawn", "parameters": {"type": "object"}})");
    EXPECT_EQ(
        request.conversation.tools[2],
        R"({"name": "patch", "description": "free", "parameters": {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}})");
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::thinking);
}

TEST(ResponsesRequest, ReadsEveryOption) {
    const GenerationRequest request = read(
        R"({"input":"hi","instructions":"sys","max_output_tokens":7,"temperature":0.2,"reasoning":{"effort":"none","max_tokens":9},)"
        R"("text":{"format":{"type":"json_schema","name":"x","schema":{"type":"object"}}}})");
    EXPECT_EQ(request.conversation.messages.at(0).content, "sys");
    EXPECT_EQ(request.conversation.messages.at(1).content, "hi");
    EXPECT_EQ(request.max_tokens, 7);
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::chat);
    EXPECT_EQ(request.thinking_budget, 9);
    EXPECT_EQ(request.conversation.response_schema, R"({"type": "object"})");
    EXPECT_STREQ(request.prompt_field, "input");
    const GenerationRequest named = read(
        R"({"input":"x","tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}],)"
        R"("tool_choice":{"type":"function","name":"f","namespace":"n"}})");
    EXPECT_EQ(named.tool_name, "n__f");
}

TEST(ResponsesRequest, NamesThatCollideStayApart) {
    const GenerationRequest request = read(
        R"({"input":"x","tools":[{"type":"function","name":"a__b"},{"type":"namespace","name":"a","tools":[{"type":"function","name":"b"}]}]})");
    EXPECT_EQ(request.conversation.tools[0], R"({"name": "a__b"})");
    EXPECT_EQ(request.conversation.tools[1], R"({"name": "a__b_"})");
}

TEST(ResponsesRequest, ReasoningComesBackAsItWas) {
    const std::string sealed = nlohmann::json(seal_reasoning("exact\n text")).dump();
    const GenerationRequest request = read(
        R"({"input":[{"role":"user","content":"x"},{"type":"reasoning","summary":[],"encrypted_content":)" +
        sealed + R"(},{"role":"user","content":"y"}]})");
    // Nobody spoke after it, so it is a turn of its own.
    EXPECT_EQ(request.conversation.messages.at(1).reasoning, "exact\n text");
    EXPECT_EQ(unseal_reasoning("gAAAA-of-somebody-else"), std::nullopt);
}

TEST(ResponsesRequest, SearchedToolsAreTools) {
    const GenerationRequest request = read(
        R"({"input":[{"role":"user","content":"x"},{"type":"tool_search_call","call_id":"c","execution":"client","arguments":{"q":1}},)"
        R"({"type":"tool_search_output","call_id":"c","tools":[{"type":"function","name":"found"}]}],"tools":[{"type":"tool_search"}]})");
    EXPECT_EQ(request.conversation.messages.at(1).tool_calls.at(0).name, "tool_search");
    EXPECT_EQ(request.conversation.tools.size(), 2u);
}

TEST(ResponsesRequest, NamesTheFieldAtFault) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"({})", "input"},
        {R"({"input":[]})", "input"},
        {R"({"input":[{"type":"hologram"}]})", "input[0].type"},
        {R"({"input":[{"role":"tool","content":"x"}]})", "input[0].role"},
        {R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})", "input[0].content[0].type"},
        {R"({"input":[{"type":"function_call_output","call_id":"zz","output":"x"}]})", "input[0].call_id"},
        {R"({"input":[{"type":"function_call","arguments":"{}"}]})", "input[0].name"},
        {R"({"input":"x","previous_response_id":"resp_1"})", "previous_response_id"},
        {R"({"input":"x","conversation":"conv_1"})", "conversation"},
        {R"({"input":"x","background":true})", "background"},
        {R"({"input":"x","max_output_tokens":0})", "max_output_tokens"},
        {R"({"input":"x","reasoning":"high"})", "reasoning"},
        {R"({"input":"x","tools":[{"type":"function","name":""}]})", "tools[0].name"},
        {R"({"input":"x","text":{"format":{"type":"yaml"}}})", "text.format.type"},
    };
    for (const auto& [body, field] : cases) EXPECT_EQ(fault(body), field) << body;
}

// ---- writing ----

std::vector<Json> events_of(const std::string& stream) {
    std::vector<Json> events;
    std::istringstream lines(stream);
    std::string type;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("event: ")) type = line.substr(7);
        if (!line.starts_with("data: ")) continue;
        events.push_back(Json::parse(line.substr(6)));
        EXPECT_EQ(events.back()["type"], type);
        EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    }
    return events;
}

std::vector<std::string> types_of(const std::vector<Json>& events) {
    std::vector<std::string> types;
    for (const Json& event : events)
        types.push_back(event["type"].get<std::string>().substr(9));  // "response."
    return types;
}

std::string write_turn(ResponseWriter& writer, Finish::Reason reason, bool ends_call) {
    std::string out = writer.start(9);
    out += writer.keepalive();
    out += writer.event(0, {Kind::reasoning, "R", {}, {}});
    out += writer.event(0, {Kind::content, "C", {}, {}});
    out += writer.event(0, {Kind::call_begin, "agents__spawn", "call_1", {}});
    out += writer.event(0, {Kind::arguments, "{\"n\":1}", {}, {}});
    if (ends_call) out += writer.event(0, {Kind::call_end, "{\"n\":1}", "call_1", {}});
    out += writer.finish(0, {reason, {}});
    return out + writer.end({9, 4, 20, 5});
}

ResponsesEcho echo_of(const std::string& body) {
    ResponsesEcho echo;
    echo.model = "m";
    echo.summary = body;
    echo.tools = {{"agents__spawn", {ResponsesTool::Kind::function, "spawn", "agents"}},
                  {"patch", {ResponsesTool::Kind::custom, "patch", ""}},
                  {"tool_search", {ResponsesTool::Kind::tool_search, "tool_search", ""}}};
    return echo;
}

TEST(ResponsesWriter, WritesEventsInTheirOrder) {
    const auto writer = make_responses_writer(echo_of("auto"));
    const auto events = events_of(write_turn(*writer, Finish::Reason::tool_calls, true));
    EXPECT_EQ(types_of(events), (std::vector<std::string>{"created",
                                                          "in_progress",
                                                          "in_progress",
                                                          "output_item.added",
                                                          "reasoning_summary_part.added",
                                                          "reasoning_summary_text.delta",
                                                          "reasoning_summary_text.done",
                                                          "reasoning_summary_part.done",
                                                          "output_item.done",
                                                          "output_item.added",
                                                          "content_part.added",
                                                          "output_text.delta",
                                                          "output_text.done",
                                                          "content_part.done",
                                                          "output_item.done",
                                                          "output_item.added",
                                                          "function_call_arguments.delta",
                                                          "function_call_arguments.done",
                                                          "output_item.done",
                                                          "completed"}));
    const Json call = events[18]["item"];
    EXPECT_EQ(call["name"], "spawn");
    EXPECT_EQ(call["namespace"], "agents");
    EXPECT_EQ(call["arguments"], "{\"n\":1}");
    EXPECT_EQ(call["call_id"], "call_1");
    EXPECT_EQ(events[18]["output_index"], 2);
    const Json response = events.back()["response"];
    ASSERT_EQ(response["output"].size(), 3u);
    EXPECT_EQ(response["output"][0]["summary"][0]["text"], "R");
    EXPECT_EQ(response["output"][1]["content"][0]["text"], "C");
    EXPECT_EQ(response["output"][2], call);
    EXPECT_EQ(
        response["usage"],
        Json::parse(R"({"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":20,)"
                    R"("output_tokens_details":{"reasoning_tokens":5},"total_tokens":29})"));
}

TEST(ResponsesWriter, ACutCallIsNoCall) {
    const auto writer = make_responses_writer(echo_of(""));
    const auto events = events_of(write_turn(*writer, Finish::Reason::length, false));
    const Json response = events.back()["response"];
    EXPECT_EQ(events.back()["type"], "response.incomplete");
    EXPECT_EQ(response["incomplete_details"]["reason"], "max_output_tokens");
    ASSERT_EQ(response["output"].size(), 1u);  // no reasoning was asked for
    EXPECT_EQ(response["output"][0]["status"], "completed");
    EXPECT_EQ(types_of(events).end()[-2], "function_call_arguments.delta");
}

TEST(ResponsesWriter, CutTextIsIncomplete) {
    const auto writer = make_responses_writer(echo_of(""));
    (void)writer->start(1);
    (void)writer->event(0, {Kind::content, "half", {}, {}});
    (void)writer->finish(0, {Finish::Reason::length, {}});
    const std::string end = writer->end({});
    const Json response = Json::parse(end.substr(end.find("data: ") + 6))["response"];
    EXPECT_EQ(response["output"][0]["status"], "incomplete");
}

TEST(ResponsesWriter, CustomToolsAndSearchesHaveTheirOwnItems) {
    const auto writer = make_responses_writer(echo_of(""));
    std::string out = writer->start(1);
    out += writer->event(0, {Kind::call_begin, "patch", "call_1", {}});
    out += writer->event(0, {Kind::arguments, "{\"input\":\"*** \\\"raw\\\"\"}", {}, {}});
    out += writer->event(0, {Kind::call_end, "{\"input\":\"*** \\\"raw\\\"\"}", "call_1", {}});
    out += writer->event(0, {Kind::call_begin, "tool_search", "call_2", {}});
    out += writer->event(0, {Kind::arguments, "{\"q\":1}", {}, {}});
    out += writer->event(0, {Kind::call_end, "{\"q\":1}", "call_2", {}});
    out += writer->finish(0, {Finish::Reason::tool_calls, {}});
    out += writer->end({});
    const auto events = events_of(out);
    EXPECT_EQ(
        types_of(events),
        (std::vector<std::string>{"created", "in_progress", "output_item.added",
                                  "custom_tool_call_input.delta", "custom_tool_call_input.done",
                                  "output_item.done", "output_item.added", "output_item.done", "completed"}));
    EXPECT_EQ(events[5]["item"]["type"], "custom_tool_call");
    EXPECT_EQ(events[5]["item"]["input"], "*** \"raw\"");
    EXPECT_EQ(events[7]["item"]["arguments"], Json::parse(R"({"q":1})"));
    EXPECT_EQ(events[7]["item"]["execution"], "client");
}

TEST(ResponsesWriter, FailuresSayWhy) {
    const auto writer = make_responses_writer(echo_of(""));
    (void)writer->start(1);
    const std::string out = writer->fail(context_overflow("input", 10, 5));
    const Json event = Json::parse(out.substr(out.find("data: ") + 6));
    EXPECT_EQ(event["type"], "response.failed");
    EXPECT_EQ(event["response"]["status"], "failed");
    EXPECT_EQ(event["response"]["error"]["code"], "context_length_exceeded");
}

TEST(ResponsesWriter, BodiesAreWhatStreamsEndWith) {
    Choice choice;
    choice.reasoning = "R";
    choice.calls = {{"call_1", "agents__spawn", "{\"n\":1}"}};
    choice.finish.reason = Finish::Reason::tool_calls;
    ResponsesEcho echo = echo_of("auto");
    echo.has_encrypted_reasoning = true;
    const Json body = Json::parse(make_responses_writer(echo)->body({&choice, 1}, {9, 4, 20, 5}));
    EXPECT_EQ(body["status"], "completed");
    EXPECT_EQ(unseal_reasoning(body["output"][0]["encrypted_content"].get<std::string>()), "R");
    EXPECT_EQ(body["output"][1]["namespace"], "agents");
    Choice silent;
    const Json empty = Json::parse(make_responses_writer(echo_of(""))->body({&silent, 1}, {}));
    EXPECT_EQ(empty["output"][0]["content"][0]["text"], "");
}

}  // namespace
}  // namespace ds4::server
