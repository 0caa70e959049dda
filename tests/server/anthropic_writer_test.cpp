// Anthropic's streams: for every way an answer can go, blocks open and close one after the other.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "server/anthropic_messages.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;
using Json = nlohmann::json;

std::vector<Json> events_of(const std::string& stream) {
    std::vector<Json> events;
    std::istringstream lines(stream);
    std::string event, data, blank;
    while (std::getline(lines, event)) {
        EXPECT_TRUE(std::getline(lines, data) && std::getline(lines, blank));
        EXPECT_TRUE(event.starts_with("event: ") && data.starts_with("data: ") && blank.empty()) << event;
        events.push_back(Json::parse(data.substr(6)));
        EXPECT_EQ(events.back()["type"], event.substr(7));
    }
    return events;
}

// "start:0:text", "delta:0", "stop:0", or the event's type.
std::vector<std::string> shape_of(const std::vector<Json>& events) {
    std::vector<std::string> shape;
    for (const Json& event : events) {
        const std::string type = event["type"];
        const std::string index = event.contains("index") ? event["index"].dump() : "";
        if (type == "content_block_start") {
            shape.push_back("start:" + index + ":" + event["content_block"]["type"].get<std::string>());
        } else if (type.starts_with("content_block_")) {
            shape.push_back(type.substr(14) + ":" + index);
        } else {
            shape.push_back(type);
        }
    }
    return shape;
}

struct Turn {
    const char* name;
    std::vector<GenerationEvent> events;
    Finish finish;
    std::string stop_reason;
    std::vector<std::string> shape;  // between message_start and message_delta
};

const std::vector<Turn>& turns() {
    using Reason = Finish::Reason;
    static const GenerationEvent why{Kind::reasoning, "why", {}, {}}, text{Kind::content, "text", {}, {}},
        begin{Kind::call_begin, "f", "toolu_1", {}}, half{Kind::arguments, "{\"a\":\"b", {}, {}},
        rest{Kind::arguments, "\"}", {}, {}}, end{Kind::call_end, "{\"a\":\"b\"}", "toolu_1", {}};
    static const std::vector<Turn> all = {
        {"text",
         {text, text},
         {Reason::stop, {}},
         "end_turn",
         {"start:0:text", "delta:0", "delta:0", "stop:0"}},
        {"nothing", {}, {Reason::stop, {}}, "end_turn", {"start:0:text", "stop:0"}},
        {"nothing to the limit", {}, {Reason::length, {}}, "max_tokens", {"start:0:text", "stop:0"}},
        {"stop sequence",
         {text},
         {Reason::stop_sequence, "\n\"END"},
         "stop_sequence",
         {"start:0:text", "delta:0", "stop:0"}},
        {"only thoughts",
         {why},
         {Reason::length, {}},
         "max_tokens",
         {"start:0:thinking", "delta:0", "delta:0", "stop:0", "start:1:text", "stop:1"}},
        {"thoughts and a call",
         {why, begin, half, rest, end},
         {Reason::tool_calls, {}},
         "tool_use",
         {"start:0:thinking", "delta:0", "delta:0", "stop:0", "start:1:tool_use", "delta:1", "delta:1",
          "stop:1"}},
        {"two calls",
         {begin, half, rest, end, begin, half, rest, end},
         {Reason::tool_calls, {}},
         "tool_use",
         {"start:0:tool_use", "delta:0", "delta:0", "stop:0", "start:1:tool_use", "delta:1", "delta:1",
          "stop:1"}},
        {"a cut call",
         {text, begin, half},
         {Reason::length, {}},
         "max_tokens",
         {"start:0:text", "delta:0", "stop:0", "start:1:tool_use", "delta:1", "stop:1"}},
        {"a call without a byte",
         {begin},
         {Reason::length, {}},
         "max_tokens",
         {"start:0:tool_use", "stop:0"}},
    };
    return all;
}

TEST(AnthropicStream, BlocksOfEveryTurn) {
    for (const Turn& turn : turns()) {
        const auto writer = make_anthropic_writer("m");
        std::string out = writer->start(9);
        for (const GenerationEvent& event : turn.events) out += writer->event(0, event);
        out += writer->finish(0, turn.finish);
        out += writer->end({9, 4, 20, 5});
        const auto events = events_of(out);
        std::vector<std::string> expected = turn.shape;
        expected.insert(expected.begin(), "message_start");
        expected.insert(expected.end(), {"message_delta", "message_stop"});
        EXPECT_EQ(shape_of(events), expected) << turn.name;
        const Json delta = events.end()[-2]["delta"];
        EXPECT_EQ(delta["stop_reason"], turn.stop_reason) << turn.name;
        EXPECT_EQ(delta["stop_sequence"].is_null(), turn.stop_reason != "stop_sequence") << turn.name;
    }
}

TEST(AnthropicStream, FragmentsOfArgumentsAreTheObject) {
    const auto writer = make_anthropic_writer("m");
    std::string out = writer->event(0, {Kind::call_begin, "f\"", "toolu_1", {}});
    const std::string object = "{\"k\":\"a\\nb\\\"\",\"n\":[1,2.50]}";
    for (std::size_t i = 0; i < object.size(); i += 3) {
        out += writer->event(0, {Kind::arguments, object.substr(i, 3), {}, {}});
    }
    out += writer->event(0, {Kind::call_end, object, "toolu_1", {}});
    std::string joined;
    const auto events = events_of(out);
    for (const Json& event : events) {
        if (event.contains("delta")) joined += event["delta"]["partial_json"].get<std::string>();
    }
    EXPECT_EQ(joined, object);
    EXPECT_EQ(events.front()["content_block"]["name"], "f\"");
    EXPECT_EQ(events.front()["content_block"]["input"], Json::object());
}

TEST(AnthropicStream, TheSignatureIsTheMessagesId) {
    const auto writer = make_anthropic_writer("m");
    std::string out = writer->start(9);
    out += writer->event(0, {Kind::reasoning, "R", {}, {}});
    out += writer->finish(0, {});
    const auto events = events_of(out);
    EXPECT_EQ(events[3]["delta"]["signature"], events[0]["message"]["id"]);
}

TEST(AnthropicStream, AFailureIsTheLastEvent) {
    for (const bool has_begun : {false, true}) {
        const auto writer = make_anthropic_writer("m");
        std::string out = writer->start(9);
        if (has_begun) out += writer->event(0, {Kind::content, "half", {}, {}});
        out += writer->fail({ErrorKind::internal, "gone"});
        const auto events = events_of(out);
        EXPECT_EQ(events.front()["type"], "message_start");
        EXPECT_EQ(events.back()["error"]["type"], "api_error");
        // Not even the open block is closed.
        EXPECT_EQ(events.size(), has_begun ? 4u : 2u);
    }
}

TEST(AnthropicStream, PingsChangeNothing) {
    const auto writer = make_anthropic_writer("m");
    std::string out = writer->event(0, {Kind::content, "a", {}, {}});
    out += writer->keepalive();
    out += writer->event(0, {Kind::content, "b", {}, {}});
    EXPECT_EQ(shape_of(events_of(out)),
              (std::vector<std::string>{"start:0:text", "delta:0", "ping", "delta:0"}));
}

TEST(AnthropicStream, AnyTextIsJsonOnOneLine) {
    const std::string text = "\r\n\x01\"\\\u2028é\xff";
    const auto writer = make_anthropic_writer("m");
    const auto events = events_of(writer->event(0, {Kind::content, text, {}, {}}));
    EXPECT_EQ(events[1]["delta"]["text"], "\r\n\x01\"\\\u2028é\uFFFD");
}

TEST(AnthropicBody, HasTheBlocksOfTheStream) {
    Choice choice;
    choice.reasoning = "R";
    choice.content = "C";
    choice.calls = {{"toolu_1", "f", "{\"a\":1}"}, {"toolu_2", "g", "{}"}};
    choice.finish.reason = Finish::Reason::tool_calls;
    const Json body = Json::parse(make_anthropic_writer("m\"")->body({&choice, 1}, {9, 4, 20, 5}));
    std::vector<std::string> types;
    for (const Json& block : body["content"]) types.push_back(block["type"]);
    EXPECT_EQ(types, (std::vector<std::string>{"thinking", "text", "tool_use", "tool_use"}));
    EXPECT_EQ(body["content"][0]["signature"], body["id"]);
    EXPECT_EQ(body["content"][2]["input"], Json::parse("{\"a\":1}"));
    EXPECT_EQ(body["model"], "m\"");
    EXPECT_EQ(body["stop_reason"], "tool_use");
    EXPECT_EQ(body["usage"], Json::parse(R"({"input_tokens":5,"cache_read_input_tokens":4,)"
                                         R"("cache_creation_input_tokens":0,"output_tokens":20})"));
}

}  // namespace
}  // namespace ds4::server
