// Chat completions and completions: what is read, and every byte of what is written.
#include "server/chat_completions.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>

#include "server/completions.h"
#include "server/fields.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;
using Json = nlohmann::json;

GenerationRequest read(const std::string& members) {
    return parse_chat_completions(parse_body(R"({"messages":[{"role":"user","content":"hi"}])" +
                                             (members.empty() ? "" : "," + members) + "}"))
        .request;
}

std::string complaint(const std::string& body) {
    try {
        (void)parse_chat_completions(parse_body(body));
        return "no error";
    } catch (const ApiError& error) {
        return error.param;
    }
}

// Ids and times replaced, so that whole texts can be compared.
std::string normal(const std::string& text) {
    static const std::regex id("(chatcmpl|cmpl)-[0-9a-f]{24}"), created("\"created\":[0-9]+");
    return std::regex_replace(std::regex_replace(text, id, "ID"), created, "\"created\":0");
}

const std::string kTools =
    R"("tools":[{"type":"function","function":{"name":"run","parameters":{"type":"object"},"strict":true}},{"type":"web_search"}])";

TEST(ChatRequest, Defaults) {
    const GenerationRequest request = read("");
    EXPECT_EQ(request.max_tokens, 0);
    EXPECT_FALSE(request.stream || request.has_seed || request.top_logprobs || request.thinking_budget);
    EXPECT_EQ(request.sampling.temperature, 1.0F);
    EXPECT_EQ(request.sampling.min_p, 0.05F);
    EXPECT_EQ(request.n_choices, 1);
    EXPECT_TRUE(request.parallel_tool_calls);
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::thinking);
}

TEST(ChatRequest, ReadsEveryField) {
    const GenerationRequest request = read(
        R"("stream":true,"max_tokens":5,"max_completion_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":3,"min_p":0,)"
        R"("seed":11,"stop":"x","n":2,"logprobs":true,"top_logprobs":4,"parallel_tool_calls":false,)"
        R"("thinking":{"type":"enabled","budget_tokens":100},"reasoning_effort":"max","tool_choice":"required",)" +
        kTools);
    EXPECT_TRUE(request.stream);
    EXPECT_EQ(request.max_tokens, 7);
    EXPECT_EQ(request.sampling.temperature, 0.5F);
    EXPECT_EQ(request.sampling.top_k, 3);
    EXPECT_EQ(request.sampling.seed, 11u);
    EXPECT_EQ(request.stop, std::vector<std::string>{"x"});
    EXPECT_EQ(request.n_choices, 2);
    EXPECT_EQ(request.top_logprobs, 4);
    EXPECT_FALSE(request.parallel_tool_calls);
    EXPECT_EQ(request.thinking_budget, 100);
    EXPECT_EQ(request.conversation.options.effort, chat::Effort::max);
    EXPECT_EQ(request.tool_choice, ToolChoice::required);
    ASSERT_EQ(request.conversation.tools.size(), 1u);  // other types are left out
    EXPECT_EQ(request.conversation.tools[0],
              R"({"name": "run", "parameters": {"type": "object"}, "strict": true})");
}

TEST(ChatRequest, NullIsAbsentAndUnknownIsSkipped) {
    const GenerationRequest request = read(
        R"("max_tokens":null,"stop":null,"tools":null,"stream":null,"logit_bias":{"1":2},"user":7,"store":true,)"
        R"("service_tier":"x","metadata":{},"presence_penalty":"odd","web_search_options":{})");
    EXPECT_EQ(request.max_tokens, 0);
    EXPECT_TRUE(request.stop.empty());
}

TEST(ChatRequest, ThinkingSwitches) {
    using chat::ThinkingMode;
    const std::vector<std::pair<std::string, ThinkingMode>> cases = {
        {R"("thinking":{"type":"disabled"},"think":true)", ThinkingMode::chat},
        {R"("thinking":{"type":"adaptive"})", ThinkingMode::thinking},
        {R"("think":false,"enable_thinking":true)", ThinkingMode::chat},
        {R"("enable_thinking":false)", ThinkingMode::chat},
        {R"("chat_template_kwargs":{"thinking":false})", ThinkingMode::chat},
        {R"("chat_template_kwargs":{"enable_thinking":false})", ThinkingMode::chat},
        {R"("reasoning_effort":"none")", ThinkingMode::chat},
        {R"("reasoning":{"effort":"none"})", ThinkingMode::chat},
        {R"("model":"deepseek-chat")", ThinkingMode::chat},
        {R"("model":"deepseek-chat","reasoning_effort":"low")", ThinkingMode::thinking},
    };
    for (const auto& [members, mode] : cases)
        EXPECT_EQ(read(members).conversation.options.thinking, mode) << members;
    EXPECT_EQ(read(R"("reasoning":{"max_tokens":12})").thinking_budget, 12);
}

TEST(ChatRequest, NamesTheFieldAtFault) {
    const auto with = [](const std::string& members) {
        return R"({"messages":[{"role":"user","content":"hi"}],)" + members + "}";
    };
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"({"messages":[]})", "messages"},
        {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages[0].content[0].type"},
        {R"({"messages":[{"role":"witch","content":""}]})", "messages[0].role"},
        {with(R"("max_tokens":0)"), "max_tokens"},
        {with(R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])"),
         "stop"},
        {with(R"("stop":[")" + std::string(1025, 'x') + "\"]"), "stop[0]"},
        {with(R"("n":9)"), "n"},
        {with(R"("top_logprobs":3)"), "top_logprobs"},
        {with(R"("logprobs":1)"), "logprobs"},
        {with(R"("seed":1.5)"), "seed"},
        {with(R"("thinking":{"type":"sometimes"})"), "thinking.type"},
        {with(R"("thinking":true)"), "thinking.type"},
        {with(R"("tool_choice":"required")"), "tool_choice"},
        {with(R"("tool_choice":{"type":"function","function":{"name":"other"}},)" + kTools), "tool_choice"},
        {with(R"("tool_choice":"sometimes")"), "tool_choice"},
        {with(R"("tools":[{"type":"function","function":{"name":""}}])"), "tools[0].function.name"},
        {with(R"("response_format":{"type":"xml"})"), "response_format.type"},
        {with(R"("response_format":{"type":"json_schema"})"), "response_format.json_schema.schema"},
        {with(R"("stream_options":{"include_usage":"x"})"), "stream_options.include_usage"},
    };
    for (const auto& [body, field] : cases) EXPECT_EQ(complaint(body), field) << body;
}

TEST(ChatRequest, AgentsReplayTheirTurns) {
    const Exchange exchange = parse_chat_completions(parse_body(
        R"({"messages":[{"role":"developer","content":"sys"},{"content":[{"type":"text","text":"u"}],"role":"user"},)"
        R"({"role":"assistant","content":null,"reasoning_content":"why","tool_calls":[{"id":"call_1","type":"function",)"
        R"("function":{"name":"run","arguments":{"a":1}}}]},{"role":"tool","tool_call_id":"call_1","content":[)"
        R"({"type":"image_url"},{"type":"text","text":"t"}]}]})"));
    const auto& messages = exchange.request.conversation.messages;
    EXPECT_EQ(messages[2].reasoning, "why");
    EXPECT_EQ(messages[2].tool_calls.at(0).arguments, R"({"a": 1})");
    EXPECT_EQ(messages[3].content, "[Unsupported image_url]\n\nt");
}

// ---- writing ----

std::string write_stream(ResponseWriter& writer) {
    std::string out = writer.start(9);
    out += writer.keepalive();
    out += writer.event(0, {Kind::reasoning, "R", {}, {}});
    out += writer.event(0, {Kind::content, "C \"q\"\n", {}, {}});
    out += writer.event(0, {Kind::call_begin, "run", "call_1", {}});
    out += writer.event(0, {Kind::arguments, "{\"a\":", {}, {}});
    out += writer.event(0, {Kind::arguments, "1}", {}, {}});
    out += writer.event(0, {Kind::call_end, "{\"a\":1}", "call_1", {}});
    out += writer.finish(0, {Finish::Reason::tool_calls, {}});
    return out + writer.end({9, 4, 20, 5});
}

const std::string kUsage =
    R"("usage":{"prompt_tokens":9,"completion_tokens":20,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4},)"
    R"("completion_tokens_details":{"reasoning_tokens":5},"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5})";

TEST(ChatWriter, WritesAStreamByteForByte) {
    const auto writer = make_chat_writer({"my \"model\"", true, false});
    const std::string head =
        R"(data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"my \"model\"","system_fingerprint":"ds4",)";
    const auto chunk = [&](const std::string& delta, const std::string& finish = "null") {
        return head + R"("choices":[{"index":0,"delta":)" + delta + ",\"finish_reason\":" + finish +
               "}]}\n\n";
    };
    EXPECT_EQ(
        normal(write_stream(*writer)),
        chunk(R"({"role":"assistant","content":""})") + ": keepalive\n\n" +
            chunk(R"({"reasoning_content":"R"})") + chunk(R"({"content":"C \"q\"\n"})") +
            chunk(
                R"({"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"run","arguments":""}}]})") +
            chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]})") +
            chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]})") +
            chunk("{}", "\"tool_calls\"") + head + R"("choices":[],)" + kUsage + "}\n\ndata: [DONE]\n\n");
}

TEST(ChatWriter, ErrorsEndAStreamWithoutDone) {
    const auto writer = make_chat_writer({"m", true, false});
    (void)writer->start(1);
    EXPECT_EQ(writer->fail({ErrorKind::internal, "gone"}),
              "data: "
              "{\"error\":{\"message\":\"gone\",\"type\":\"server_error\",\"param\":null,\"code\":\"server_"
              "error\"}}\n\n");
}

TEST(ChatWriter, WritesWholeAnswers) {
    Choice choice;
    choice.reasoning = "R";
    choice.calls = {{"call_1", "run", "{\"a\":1}"}};
    choice.finish.reason = Finish::Reason::tool_calls;
    Choice other;
    other.content = "text";
    other.finish = {Finish::Reason::stop_sequence, "x"};
    const std::vector<Choice> choices = {choice, other};
    EXPECT_EQ(
        normal(make_chat_writer({"m", false, false})->body(choices, {9, 4, 20, 5})),
        R"({"id":"ID","object":"chat.completion","created":0,"model":"m","system_fingerprint":"ds4","choices":[)"
        R"({"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"R","tool_calls":[)"
        R"({"id":"call_1","type":"function","function":{"name":"run","arguments":"{\"a\":1}"}}]},"logprobs":null,)"
        R"("finish_reason":"tool_calls"},{"index":1,"message":{"role":"assistant","content":"text"},"logprobs":null,)"
        R"("finish_reason":"stop"}],)" +
            kUsage + "}");
}

TEST(ChatWriter, WritesLogprobsWithBytes) {
    const auto writer = make_chat_writer({"m", false, true});
    GenerationEvent event{Kind::content, "é", {}, {}};
    event.logprobs.push_back({{"\xC3", -0.5F}, {{"a", -INFINITY}}});
    const std::string text = writer->event(0, event);
    const Json chunk = Json::parse(text.substr(6));
    const Json token = chunk["choices"][0]["logprobs"]["content"][0];
    EXPECT_EQ(token["bytes"], Json::array({0xC3}));
    EXPECT_EQ(token["token"], "\xEF\xBF\xBD");
    EXPECT_EQ(token["logprob"], -0.5);
    EXPECT_EQ(token["top_logprobs"][0]["logprob"], -9999.0);
}

// ---- completions ----

TEST(Completions, ReadsPrompts) {
    const auto raw = [](const std::string& body) { return *parse_completions(parse_body(body)).request.raw; };
    EXPECT_EQ(std::get<std::string>(raw(R"({"prompt":"x"})")), "x");
    EXPECT_EQ(std::get<std::string>(raw(R"({"prompt":["x"]})")), "x");
    EXPECT_EQ(std::get<std::vector<TokenId>>(raw(R"({"prompt":[1,2]})")), (std::vector<TokenId>{1, 2}));
    for (const std::string body :
         {R"({})", R"({"prompt":7})", R"({"prompt":["a","b"]})", R"({"prompt":[-1]})",
          R"({"prompt":[4294967296]})", R"({"prompt":"x","best_of":2})", R"({"prompt":"x","logprobs":21})",
          R"({"prompt":"x","suffix":"y"})"}) {
        EXPECT_THROW((void)raw(body), ApiError) << body;
    }
}

TEST(Completions, WritesStreamsAndBodies) {
    Exchange exchange = parse_completions(
        parse_body(R"({"prompt":"x","logprobs":1,"stream_options":{"include_usage":true}})"));
    ResponseWriter& writer = *exchange.writer;
    GenerationEvent event{Kind::content, "ab", {}, {}};
    event.logprobs.push_back({{"a", NAN}, {}});
    event.logprobs.push_back({{"b", -1.0F}, {{"b", -1.0F}}});
    EXPECT_EQ(writer.start(1), "");
    const Json chunk = Json::parse(writer.event(0, event).substr(6));
    EXPECT_EQ(chunk["choices"][0]["text"], "ab");
    EXPECT_EQ(
        chunk["choices"][0]["logprobs"],
        Json::parse(
            R"({"tokens":["a","b"],"token_logprobs":[null,-1.0],"top_logprobs":[null,{"b":-1.0}],"text_offset":[0,1]})"));
    EXPECT_EQ(
        Json::parse(writer.finish(0, {Finish::Reason::length, {}}).substr(6))["choices"][0]["finish_reason"],
        "length");
    const std::string end = writer.end({9, 4, 20, 5});
    EXPECT_NE(end.find(kUsage), std::string::npos);
    EXPECT_TRUE(end.ends_with("data: [DONE]\n\n"));
}

}  // namespace
}  // namespace ds4::server
