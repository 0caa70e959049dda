// Every field and item of OpenAI's Responses: right, wrong, null and absent; and how items become turns.
#include <gtest/gtest.h>

#include "chat/render.h"
#include "server/fields.h"
#include "server/responses.h"

namespace ds4::server {
namespace {

using chat::Role;

GenerationRequest read(const std::string& body) {
    return parse_responses(parse_body(body)).request;
}

std::string with(const std::string& members) {
    return R"({"input":"x",)" + members + "}";
}

std::string items(const std::string& list) {
    return R"({"input":[)" + list + "]}";
}

std::string fault(const std::string& body) {
    try {
        (void)read(body);
        return "no error";
    } catch (const ApiError& error) {
        return error.param;
    }
}

TEST(ResponsesFields, NullIsAbsent) {
    for (const char* field : {"instructions", "tools", "tool_choice", "max_output_tokens", "temperature",
                              "top_p", "stream", "parallel_tool_calls", "reasoning", "text",
                              "previous_response_id", "conversation", "background", "include", "model"}) {
        EXPECT_EQ(fault(with("\"" + std::string(field) + "\":null")), "no error") << field;
    }
    const GenerationRequest request = read(R"({"input":"x"})");
    EXPECT_EQ(request.conversation.messages.size(), 1u);
    EXPECT_EQ(request.max_tokens, 0);
    EXPECT_TRUE(request.parallel_tool_calls);
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::thinking);
    EXPECT_EQ(fault(with(R"("background":false)")), "no error");
}

TEST(ResponsesFields, SkippedOnesMayBeAnything) {
    for (const char* field : {"store", "include", "prompt_cache_key", "client_metadata", "truncation",
                              "metadata", "user", "service_tier"}) {
        for (const char* value : {"5", "\"x\"", "[]", "{\"a\":1}", "false"}) {
            EXPECT_EQ(fault(with("\"" + std::string(field) + "\":" + value)), "no error") << field << value;
        }
    }
    EXPECT_EQ(fault(with(R"("text":{"verbosity":5})")), "no error");
}

TEST(ResponsesFields, OfTheWrongTypeAreNamed) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"("instructions":5)", "instructions"},
        {R"("tools":{})", "tools"},
        {R"("tools":["f"])", "tools[0]"},
        {R"("tools":[{"type":"function"}])", "tools[0].name"},
        {R"("tools":[{"type":"custom","name":""}])", "tools[0].name"},
        {R"("tools":[{"type":"function","name":"f","description":5}])", "tools[0].description"},
        {R"("tools":[{"type":"function","name":"f","parameters":"x"}])", "tools[0].parameters"},
        {R"("tools":[{"type":"function","name":"f","strict":"yes"}])", "tools[0].strict"},
        {R"("tools":[{"type":"namespace","tools":[]}])", "tools[0].name"},
        {R"("tools":[{"type":"namespace","name":"n","tools":[{"name":5}]}])", "tools[0].tools[0].name"},
        {R"("tool_choice":"some")", "tool_choice"},
        {R"("tool_choice":"required")", "tool_choice"},
        {R"("tool_choice":{"type":"function"})", "tool_choice.name"},
        {R"("tool_choice":{"type":"function","name":"g"},"tools":[{"name":"f"}])", "tool_choice"},
        {R"("max_output_tokens":"9")", "max_output_tokens"},
        {R"("temperature":"hot")", "temperature"},
        {R"("stream":1)", "stream"},
        {R"("parallel_tool_calls":"no")", "parallel_tool_calls"},
        {R"("reasoning":[])", "reasoning"},
        {R"("reasoning":{"effort":5})", "reasoning.effort"},
        {R"("reasoning":{"summary":true})", "reasoning.summary"},
        {R"("text":"json")", "text"},
        {R"("text":{"format":"json"})", "text.format"},
        {R"("text":{"format":{"type":"json_schema"}})", "text.format.schema"},
        {R"("background":"yes")", "background"},
        {R"("model":{})", "model"},
    };
    for (const auto& [members, field] : cases) EXPECT_EQ(fault(with(members)), field) << members;
}

TEST(ResponsesItems, OfTheWrongTypeAreNamed) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"("hi")", "input[0]"},
        {R"({"type":5})", "input[0].type"},
        {R"({"content":"x"})", "input[0].role"},
        {R"({"role":"user","content":5})", "input[0].content"},
        {R"({"role":"user","content":[{"text":"x"}]})", "input[0].content[0].type"},
        {R"({"role":"user","content":[{"type":"input_text","text":5}]})", "input[0].content[0].text"},
        {R"({"role":"user","content":[{"type":"input_file"}]})", "input[0].content[0].type"},
        {R"({"type":"function_call","name":"f","call_id":5})", "input[0].call_id"},
        {R"({"type":"function_call","name":"f","namespace":5,"call_id":"a"})", "input[0].namespace"},
        {R"({"type":"custom_tool_call","name":"f","call_id":"a","input":{}})", "input[0].input"},
        {R"({"type":"function_call_output","output":"x"})", "input[0].call_id"},
        {R"({"type":"reasoning","summary":5})", "input[0].summary"},
        {R"({"type":"item_reference","id":"msg_1"})", "input[0].type"},
    };
    for (const auto& [item, field] : cases) EXPECT_EQ(fault(items(item)), field) << item;
}

// Role, reasoning, content and calls of every message.
std::string outline(const GenerationRequest& request) {
    static const char* const roles[] = {"system", "developer", "user", "assistant", "tool"};
    std::string out;
    for (const chat::Message& message : request.conversation.messages) {
        out += std::string(roles[static_cast<int>(message.role)]) + "(";
        if (message.reasoning) out += "<" + *message.reasoning + ">";
        out += message.content;
        for (const chat::ToolCall& call : message.tool_calls) out += " " + call.name + call.arguments;
        out += ")";
    }
    return out;
}

TEST(ResponsesItems, FoldIntoTurns) {
    const std::string think = R"({"type":"reasoning","summary":[{"type":"summary_text","text":"r"}]},)";
    const std::string say = R"({"role":"assistant","content":[{"type":"output_text","text":"s"}]},)";
    const std::string call = R"({"type":"function_call","name":"f","arguments":"{}","call_id":"a"},)";
    const std::string result = R"({"type":"function_call_output","call_id":"a","output":"o"},)";
    const std::string ask = R"({"role":"user","content":"u"})";
    const std::vector<std::pair<std::string, std::string>> cases = {
        {think + say + ask, "assistant(<r>s)user(u)"},
        {think + call + result + ask, "assistant(<r> f{})tool(o)user(u)"},
        {think + say + call + call + result + ask, "assistant(<r>s f{} f{})tool(o)user(u)"},
        {think + ask, "assistant(<r>)user(u)"},
        {call + think + result + ask, "assistant(<r> f{})tool(o)user(u)"},
        {think + think + say + ask, "assistant(<rr>s)user(u)"},
        {say + say + ask, "assistant(ss)user(u)"},
        {ask + "," + think.substr(0, think.size() - 1), "user(u)assistant(<r>)"},
        {R"({"type":"compaction","encrypted_content":"x"},)" + ask, "user(u)"},
        {R"({"type":"web_search_call","status":"completed"},)" + ask, "user(u)"},
        {R"({"role":"developer","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},)" +
             ask,
         "system(a\n\nb)user(u)"},
    };
    for (const auto& [list, expected] : cases) EXPECT_EQ(outline(read(items(list))), expected) << list;
}

TEST(ResponsesItems, CallsOfEveryKindAndTheirResults) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"({"type":"function_call","status":"incomplete","name":"f","call_id":"a"},)"
         R"({"type":"function_call_output","call_id":"a","output":[{"type":"input_text","text":"o"},{"type":"input_image"}]})",
         "assistant( f)tool(o\n\n[Unsupported input_image])"},
        {R"({"type":"function_call","name":"f","arguments":{"k":1.50},"call_id":"a"},)"
         R"({"type":"function_call_output","call_id":"a","output":{"ok":true}})",
         "assistant( f{\"k\": 1.5})tool({\"ok\": true})"},
        {R"({"type":"custom_tool_call","name":"p","input":"a\n\"","call_id":"a"},)"
         R"({"type":"custom_tool_call_output","call_id":"a"})",
         R"(assistant( p{"input": "a\n\""})tool())"},
        {R"({"type":"local_shell_call","id":"lsh_1","call_id":"a","action":{"command":["ls"]}},)"
         R"({"type":"local_shell_call_output","id":"a","output":"o"})",
         R"(assistant( local_shell{"command": ["ls"]})tool(o))"},
    };
    for (const auto& [list, expected] : cases) EXPECT_EQ(outline(read(items(list))), expected) << list;
}

TEST(ResponsesItems, AResultNeedsItsCallBeforeIt) {
    try {
        (void)read(items(R"({"type":"function_call_output","call_id":"a","output":"o"},)"
                         R"({"type":"function_call","name":"f","call_id":"a"})"));
        FAIL();
    } catch (const ApiError& error) {
        EXPECT_EQ(error.param, "input[0].call_id");
        EXPECT_NE(std::string(error.what()).find("full input"), std::string::npos);
    }
}

TEST(ResponsesTools, ASearchTellsNamesAndAddsEachToolOnce) {
    const std::string found =
        R"("tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"namespace","name":"n","tools":[{"name":"g"}]}])";
    const std::string search = R"({"type":"tool_search_call","call_id":"C","arguments":{"q":1}},)"
                               R"({"type":"tool_search_output","call_id":"C",)" +
                               found + "}";
    const GenerationRequest request =
        read(R"({"tools":[{"type":"tool_search","description":"find"}],"input":[)" + search + "," + search +
             R"(,{"type":"function_call","namespace":"n","name":"g","call_id":"D"}]})");
    const std::string once = R"(assistant( tool_search{"q": 1})tool(["f", "n__g"]))";
    EXPECT_EQ(outline(request), once + once + "assistant( n__g)");
    EXPECT_EQ(request.conversation.tools,
              (std::vector<std::string>{R"({"name": "tool_search", "description": "find"})",
                                        R"({"name": "f", "parameters": {"type": "object"}})",
                                        R"({"name": "n__g"})"}));
}

TEST(ResponsesTools, ACallInTheHistoryFindsItsOwnKind) {
    const std::string tools = R"("tools":[{"type":"function","name":"p"},{"type":"custom","name":"p"},)"
                              R"({"type":"namespace","name":"n","tools":[{"type":"custom","name":"c"}]}],)";
    const auto calls = [&](const std::string& item) {
        return outline(read("{" + tools + "\"input\":[" + item + "]}"));
    };
    EXPECT_EQ(calls(R"({"type":"function_call","name":"p","call_id":"a"})"), "assistant( p)");
    EXPECT_EQ(calls(R"({"type":"custom_tool_call","name":"p","call_id":"a","input":""})"),
              R"(assistant( p_{"input": ""}))");
    EXPECT_EQ(calls(R"({"type":"custom_tool_call","namespace":"n","name":"c","call_id":"a","input":""})"),
              R"(assistant( n__c{"input": ""}))");
    // Called as one kind, declared as another.
    EXPECT_EQ(calls(R"({"type":"function_call","namespace":"n","name":"c","call_id":"a"})"),
              "assistant( n__c)");
    EXPECT_EQ(calls(R"({"type":"function_call","namespace":"gone","name":"c","call_id":"a"})"),
              "assistant( gone__c)");
    EXPECT_EQ(read("{" + tools + R"("input":"x","tool_choice":{"type":"custom","name":"p"}})").tool_name,
              "p_");
}

TEST(ResponsesTools, ServersToolsAreLeftOut) {
    const GenerationRequest request = read(with(
        R"("tools":[{"type":"web_search"},{"type":"image_generation"},{"type":"local_shell"},{"type":"mcp","server_url":"x"}])"));
    EXPECT_TRUE(request.conversation.tools.empty());
}

TEST(ResponsesFields, EffortIsOffOrHowHard) {
    const auto options = [](const char* effort) {
        return read(with(R"("reasoning":{"effort":")" + std::string(effort) + "\"}")).conversation.options;
    };
    EXPECT_EQ(options("none").thinking, chat::ThinkingMode::chat);
    for (const char* effort : {"minimal", "low", "medium", "high", "xhigh", "max", "whatever"}) {
        EXPECT_EQ(options(effort).thinking, chat::ThinkingMode::thinking) << effort;
    }
    EXPECT_EQ(options("max").effort, chat::Effort::max);
    EXPECT_EQ(options("xhigh").effort, chat::Effort::high);
}

// Pi with api "openai-responses".
TEST(ResponsesItems, ReadsWhatPiSends) {
    const GenerationRequest request = read(
        R"({"model":"m","stream":true,"store":false,"prompt_cache_key":"k","max_output_tokens":32000,)"
        R"("reasoning":{"effort":"medium","summary":"auto"},"include":["reasoning.encrypted_content"],"input":[)"
        R"({"role":"developer","content":"You are Pi."},{"role":"user","content":[{"type":"input_text","text":"list"}]},)"
        R"({"type":"reasoning","id":"rs_1","status":"completed","summary":[{"type":"summary_text","text":"ls."}]},)"
        R"({"type":"function_call","id":"fc_1","call_id":"call_1","name":"bash","arguments":"{\"command\":\"ls\"}"},)"
        R"({"type":"function_call_output","call_id":"call_1","output":"a.txt"}],)"
        R"("tools":[{"type":"function","name":"bash","description":"Run","parameters":{"type":"object"},"strict":null}]})");
    EXPECT_EQ(request.max_tokens, 32000);
    EXPECT_EQ(request.conversation.tools.at(0),
              R"({"name": "bash", "description": "Run", "parameters": {"type": "object"}})");
    const std::string text = chat::to_text(chat::render(request.conversation));
    EXPECT_NE(text.find("<think>ls.</think>\n\n<｜DSML｜tool_calls>"), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with("<tool_result>a.txt</tool_result><｜Assistant｜><think>")) << text;
}

}  // namespace
}  // namespace ds4::server
