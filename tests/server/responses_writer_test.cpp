// OpenAI's Responses: whole streams as text, and what a client may rely on however an answer ends.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "server/responses.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;
using Reason = Finish::Reason;
using Json = nlohmann::json;

const GenerationEvent kWhy{Kind::reasoning, "R", {}, {}}, kText{Kind::content, "C", {}, {}},
    kBegin{Kind::call_begin, "n__f", "call_1", {}}, kHalf{Kind::arguments, "{\"a\":", {}, {}},
    kRest{Kind::arguments, "1}", {}, {}}, kEnd{Kind::call_end, "{\"a\":1}", "call_1", {}};

std::unique_ptr<ResponseWriter> writer_with(const std::string& summary) {
    ResponsesEcho echo;
    echo.model = "m";
    echo.summary = summary;
    echo.tools = {{"n__f", {ResponsesTool::Kind::function, "f", "n"}}};
    return make_responses_writer(std::move(echo));
}

std::string stream_of(ResponseWriter& writer, const std::vector<GenerationEvent>& events, Reason reason) {
    std::string out = writer.start(9);
    for (const GenerationEvent& event : events) out += writer.event(0, event);
    out += writer.finish(0, {reason, {}});
    return out + writer.end({9, 4, 20, 5});
}

std::vector<Json> events_of(const std::string& stream) {
    std::vector<Json> events;
    std::istringstream lines(stream);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("data: ")) events.push_back(Json::parse(line.substr(6)));
    }
    return events;
}

std::string normal(std::string text) {
    text = std::regex_replace(text, std::regex("(resp|rs|msg|fc|ctc|tsc)_[0-9a-f]{24}"), "$1_ID");
    return std::regex_replace(text, std::regex("\"created_at\":[0-9]+"), "\"created_at\":0");
}

std::string response(const std::string& status, const std::string& output, const std::string& usage,
                     const std::string& summary) {
    return R"("response":{"id":"resp_ID","object":"response","created_at":0,"status":")" + status +
           R"(","model":"m","output":[)" + output + R"(],"usage":)" + usage +
           R"(,"error":null,"incomplete_details":null,"instructions":null,"metadata":{},)"
           R"("parallel_tool_calls":true,"temperature":1,"top_p":1,"tool_choice":"auto","tools":[],"store":false,)"
           R"("previous_response_id":null,"reasoning":{"effort":null,"summary":)" +
           summary + R"(},"text":{"format":{"type":"text"}}})";
}

TEST(ResponsesStream, ByteForByte) {
    std::string expected;
    int n = 0;
    const auto sse = [&](const std::string& type, const std::string& members) {
        expected += "event: response." + type + "\ndata: {\"type\":\"response." + type +
                    "\",\"sequence_number\":" + std::to_string(n++) + "," + members + "}\n\n";
    };
    const std::string of_r = R"("item_id":"rs_ID","output_index":0,"summary_index":0,)";
    const std::string of_m = R"("item_id":"msg_ID","output_index":1,"content_index":0,)";
    const std::string of_f = R"("item_id":"fc_ID","output_index":2,)";
    const std::string summary = R"({"type":"summary_text","text":"R"})";
    const std::string part = R"({"type":"output_text","text":"C","annotations":[],"logprobs":[]})";
    const auto reasoning = [](const char* status, const std::string& content) {
        return R"({"id":"rs_ID","type":"reasoning","status":")" + std::string(status) + R"(","summary":[)" +
               content + "]}";
    };
    const auto message = [](const char* status, const std::string& content) {
        return R"({"id":"msg_ID","type":"message","status":")" + std::string(status) +
               R"(","role":"assistant","content":[)" + content + "]}";
    };
    const auto call = [](const char* status, const std::string& arguments) {
        return R"({"id":"fc_ID","type":"function_call","status":")" + std::string(status) +
               R"(","call_id":"call_1","name":"f","arguments":")" + arguments + R"(","namespace":"n"})";
    };
    const std::string object = R"({\"a\":1})";
    sse("created", response("in_progress", "", "null", "\"auto\""));
    sse("in_progress", response("in_progress", "", "null", "\"auto\""));
    sse("output_item.added", R"("output_index":0,"item":)" + reasoning("in_progress", ""));
    sse("reasoning_summary_part.added", of_r + R"("part":{"type":"summary_text","text":""})");
    sse("reasoning_summary_text.delta", of_r + R"("delta":"R")");
    sse("reasoning_summary_text.done", of_r + R"("text":"R")");
    sse("reasoning_summary_part.done", of_r + R"("part":)" + summary);
    sse("output_item.done", R"("output_index":0,"item":)" + reasoning("completed", summary));
    sse("output_item.added", R"("output_index":1,"item":)" + message("in_progress", ""));
    sse("content_part.added", of_m + R"("part":{"type":"output_text","text":"","annotations":[]})");
    sse("output_text.delta", of_m + R"("delta":"C","logprobs":[])");
    sse("output_text.done", of_m + R"("text":"C","logprobs":[])");
    sse("content_part.done", of_m + R"("part":)" + part);
    sse("output_item.done", R"("output_index":1,"item":)" + message("completed", part));
    sse("output_item.added", R"("output_index":2,"item":)" + call("in_progress", ""));
    sse("function_call_arguments.delta", of_f + R"("delta":"{\"a\":")");
    sse("function_call_arguments.delta", of_f + R"("delta":"1}")");
    sse("function_call_arguments.done", of_f + R"("name":"f","arguments":")" + object + "\"");
    sse("output_item.done", R"("output_index":2,"item":)" + call("completed", object));
    sse("completed",
        response("completed",
                 reasoning("completed", summary) + "," + message("completed", part) + "," +
                     call("completed", object),
                 R"({"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":20,)"
                 R"("output_tokens_details":{"reasoning_tokens":5},"total_tokens":29})",
                 "\"auto\""));
    const auto writer = writer_with("auto");
    EXPECT_EQ(normal(stream_of(*writer, {kWhy, kText, kBegin, kHalf, kRest, kEnd}, Reason::tool_calls)),
              expected);
}

struct Ending {
    const char* name;
    std::string summary;
    std::vector<GenerationEvent> events;
    Reason reason;
    std::string terminal;
    std::string items;  // TYPE:STATUS of the output
};

TEST(ResponsesStream, EndsInEveryWay) {
    const std::vector<Ending> cases = {
        {"text", "", {kText, kText}, Reason::stop, "completed", "message:completed "},
        {"stop sequence", "", {kText}, Reason::stop_sequence, "completed", "message:completed "},
        {"nothing", "", {}, Reason::stop, "completed", "message:completed "},
        {"hidden thoughts", "", {kWhy}, Reason::stop, "completed", "message:completed "},
        {"cut text", "", {kText}, Reason::length, "incomplete", "message:incomplete "},
        {"cut thoughts",
         "auto",
         {kWhy},
         Reason::length,
         "incomplete",
         "reasoning:incomplete message:incomplete "},
        {"thoughts, cut text",
         "auto",
         {kWhy, kText},
         Reason::length,
         "incomplete",
         "reasoning:completed message:incomplete "},
        {"text, cut call", "", {kText, kBegin, kHalf}, Reason::length, "incomplete", "message:completed "},
        {"call, cut call",
         "",
         {kBegin, kHalf, kRest, kEnd, kBegin},
         Reason::length,
         "incomplete",
         "function_call:completed "},
        {"two calls",
         "",
         {kBegin, kHalf, kRest, kEnd, kBegin, kHalf, kRest, kEnd},
         Reason::tool_calls,
         "completed",
         "function_call:completed function_call:completed "},
    };
    for (const Ending& ending : cases) {
        const auto writer = writer_with(ending.summary);
        const auto events = events_of(stream_of(*writer, ending.events, ending.reason));
        EXPECT_EQ(events.back()["type"], "response." + ending.terminal) << ending.name;
        const Json& last = events.back()["response"];
        EXPECT_EQ(last["status"], ending.terminal) << ending.name;
        EXPECT_EQ(last["incomplete_details"].is_null(), ending.terminal == "completed") << ending.name;
        std::string items;
        Json done = Json::array();
        for (const Json& item : last["output"]) {
            items += item["type"].get<std::string>() + ":" + item["status"].get<std::string>() + " ";
        }
        EXPECT_EQ(items, ending.items) << ending.name;
        for (std::size_t i = 0; i < events.size(); ++i) {
            EXPECT_EQ(events[i]["sequence_number"], i) << ending.name;
            if (events[i]["type"] == "response.output_item.done") done.push_back(events[i]["item"]);
        }
        EXPECT_EQ(done, last["output"]) << ending.name;
    }
}

TEST(ResponsesStream, DeltasDoneAndOutputAgree) {
    const auto writer = writer_with("");
    const auto events =
        events_of(stream_of(*writer, {kText, kBegin, kHalf, kRest, kEnd}, Reason::tool_calls));
    std::string text, arguments;
    for (const Json& event : events) {
        if (event["type"] == "response.output_text.delta") text += event["delta"];
        if (event["type"] == "response.function_call_arguments.delta") arguments += event["delta"];
    }
    const Json& output = events.back()["response"]["output"];
    EXPECT_EQ(output[0]["content"][0]["text"], text);
    EXPECT_EQ(output[1]["arguments"], arguments);
    EXPECT_TRUE(Json::accept(arguments));
}

TEST(ResponsesStream, ASignOfLifeHoldsNothing) {
    const auto writer = writer_with("auto");
    std::string out = writer->start(9);
    for (const GenerationEvent& event : {kWhy, kText, kBegin, kHalf, kRest, kEnd})
        out += writer->event(0, event);
    const auto events = events_of(out + writer->keepalive());
    EXPECT_EQ(events.back()["type"], "response.in_progress");
    EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    EXPECT_EQ(events.back()["response"]["output"], Json::array());
    EXPECT_TRUE(events.back()["response"]["usage"].is_null());
}

TEST(ResponsesStream, FailuresKeepWhatIsDone) {
    const std::vector<std::pair<ErrorKind, std::string>> codes = {
        {ErrorKind::internal, "server_error"},
        {ErrorKind::unavailable, "server_error"},
        {ErrorKind::queue_full, "rate_limit_exceeded"},
        {ErrorKind::invalid_request, "invalid_prompt"},
        {ErrorKind::context_overflow, "context_length_exceeded"},
    };
    for (const auto& [kind, code] : codes) {
        const auto writer = writer_with("");
        std::string out = writer->start(9);
        for (const GenerationEvent& event : {kText, kBegin, kHalf}) out += writer->event(0, event);
        out += writer->fail({kind, "gone"});
        const auto events = events_of(out);
        const Json& last = events.back()["response"];
        EXPECT_EQ(events.back()["type"], "response.failed");
        EXPECT_EQ(events.end()[-2]["type"], "response.function_call_arguments.delta");  // the call stays open
        EXPECT_EQ(last["status"], "failed");
        EXPECT_EQ(last["error"]["code"], code);
        ASSERT_EQ(last["output"].size(), 1u);
        EXPECT_EQ(last["output"][0]["type"], "message");
    }
    const auto writer = writer_with("");
    const std::string start = writer->start(9);
    const auto events = events_of(start + writer->fail({ErrorKind::internal, "gone"}));
    EXPECT_EQ(events.back()["type"], "response.failed");
    EXPECT_EQ(events.back()["response"]["output"], Json::array());
}

TEST(ResponsesBody, IsTheStreamsLastResponse) {
    Choice choice;
    choice.reasoning = "R";
    choice.content = "C";
    choice.calls = {{"call_1", "n__f", "{\"a\":1}"}};
    choice.finish.reason = Reason::tool_calls;
    const std::string body = writer_with("auto")->body({&choice, 1}, {9, 4, 20, 5});
    const auto writer = writer_with("auto");
    const std::string stream =
        normal(stream_of(*writer, {kWhy, kText, kBegin, kHalf, kRest, kEnd}, Reason::tool_calls));
    EXPECT_EQ(Json::parse(normal(body)), events_of(stream).back()["response"]);
}

}  // namespace
}  // namespace ds4::server
