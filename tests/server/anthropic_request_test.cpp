// Every field of Anthropic's Messages: right, wrong, null and absent; and where a block may stand.
#include <gtest/gtest.h>

#include "chat/render.h"
#include "server/anthropic_messages.h"
#include "server/fields.h"

namespace ds4::server {
namespace {

using chat::Role;

GenerationRequest read(const std::string& body) {
    return parse_anthropic_messages(parse_body(body)).request;
}

std::string with(const std::string& members) {
    return R"({"messages":[{"role":"user","content":"hi"}],)" + members + "}";
}

std::string fault(const std::string& body) {
    try {
        (void)read(body);
        return "no error";
    } catch (const ApiError& error) {
        return error.param;
    }
}

std::string messages(const std::string& items) {
    return R"({"messages":[)" + items + "]}";
}

TEST(AnthropicFields, NullIsAbsent) {
    for (const char* field :
         {"system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "max_tokens",
          "temperature", "top_p", "top_k", "min_p", "seed", "stream", "model", "metadata"}) {
        EXPECT_EQ(fault(with("\"" + std::string(field) + "\":null")), "no error") << field;
    }
    const GenerationRequest request = read(messages(R"({"role":"user","content":"hi"})"));
    EXPECT_EQ(request.max_tokens, 0);
    EXPECT_FALSE(request.stream);
    EXPECT_FALSE(request.has_seed);
    EXPECT_EQ(request.thinking_budget, std::nullopt);
    EXPECT_EQ(request.tool_choice, ToolChoice::automatic);
    EXPECT_TRUE(request.parallel_tool_calls);
    EXPECT_EQ(request.conversation.options.thinking, chat::ThinkingMode::thinking);
}

TEST(AnthropicFields, SkippedOnesMayBeAnything) {
    for (const char* field :
         {"metadata", "context_management", "service_tier", "container", "mcp_servers", "betas"}) {
        for (const char* value : {"5", "\"x\"", "[]", "{\"a\":1}", "false"}) {
            EXPECT_EQ(fault(with("\"" + std::string(field) + "\":" + value)), "no error") << field << value;
        }
    }
}

TEST(AnthropicFields, OfTheWrongTypeAreNamed) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"("system":[{"type":"text","text":5}])", "system[0].text"},
        {R"("system":["x"])", "system[0]"},
        {R"("tools":{})", "tools"},
        {R"("tools":["f"])", "tools[0]"},
        {R"("tools":[{"input_schema":{}}])", "tools[0].name"},
        {R"("tools":[{"name":5,"input_schema":{}}])", "tools[0].name"},
        {R"("tools":[{"name":"f","description":5,"input_schema":{}}])", "tools[0].description"},
        {R"("tools":[{"name":"f","input_schema":"x"}])", "tools[0].input_schema"},
        {R"("tool_choice":"auto")", "tool_choice"},
        {R"("tool_choice":{})", "tool_choice.type"},
        {R"("tool_choice":{"type":"all"})", "tool_choice.type"},
        {R"("tool_choice":{"type":"tool"})", "tool_choice.name"},
        {R"("tool_choice":{"type":"auto","disable_parallel_tool_use":1})",
         "tool_choice.disable_parallel_tool_use"},
        {R"("tool_choice":{"type":"tool","name":"g"},"tools":[{"name":"f","input_schema":{}}])",
         "tool_choice"},
        {R"("thinking":true)", "thinking"},
        {R"("thinking":{})", "thinking.type"},
        {R"("thinking":{"type":"hard"})", "thinking.type"},
        {R"("thinking":{"type":"enabled","budget_tokens":"9"})", "thinking.budget_tokens"},
        {R"("output_config":"high")", "output_config"},
        {R"("output_config":{"effort":1})", "output_config.effort"},
        {R"("stop_sequences":5)", "stop_sequences"},
        {R"("stop_sequences":["a",5])", "stop_sequences[1]"},
        {R"("stop_sequences":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17])", "stop_sequences"},
        {R"("max_tokens":-1)", "max_tokens"},
        {R"("max_tokens":"9")", "max_tokens"},
        {R"("max_tokens":1.5)", "max_tokens"},
        {R"("temperature":"hot")", "temperature"},
        {R"("top_p":[])", "top_p"},
        {R"("top_k":{})", "top_k"},
        {R"("stream":"yes")", "stream"},
        {R"("model":5)", "model"},
    };
    for (const auto& [members, field] : cases) EXPECT_EQ(fault(with(members)), field) << members;
}

TEST(AnthropicFields, BlocksOfTheWrongTypeAreNamed) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"("hi")", "messages[0]"},
        {R"({"content":"x"})", "messages[0].role"},
        {R"({"role":"user"})", "messages[0].content"},
        {R"({"role":"user","content":null})", "messages[0].content"},
        {R"({"role":"user","content":{}})", "messages[0].content"},
        {R"({"role":"user","content":["x"]})", "messages[0].content[0]"},
        {R"({"role":"user","content":[{"type":"text"}]})", "messages[0].content[0].text"},
        {R"({"role":"assistant","content":[{"type":"thinking"}]})", "messages[0].content[0].thinking"},
        {R"({"role":"assistant","content":[{"type":"tool_use","name":"f"}]})", "messages[0].content[0].id"},
        {R"({"role":"assistant","content":[{"type":"tool_use","id":"a"}]})", "messages[0].content[0].name"},
        {R"({"role":"user","content":[{"type":"tool_result"}]})", "messages[0].content[0].tool_use_id"},
        {R"({"role":"user","content":[{"type":"document"}]})", "messages[0].content[0].type"},
        {R"({"role":"system","content":[{"type":"image"}]})", "messages[0].content[0].type"},
        {R"({"role":"assistant","content":[{"type":"image"}]})", "messages[0].content[0].type"},
    };
    for (const auto& [message, field] : cases) EXPECT_EQ(fault(messages(message)), field) << message;
}

TEST(AnthropicFields, ThinkingByTypeThenEffortThenModel) {
    const std::vector<std::pair<std::string, bool>> cases = {
        {R"("thinking":{"type":"enabled"},"output_config":{"effort":"none"})", true},
        {R"("thinking":{"type":"adaptive"},"model":"deepseek-chat")", true},
        {R"("thinking":{"type":"disabled"},"output_config":{"effort":"high"})", false},
        {R"("output_config":{"effort":"none"},"model":"deepseek-reasoner")", false},
        {R"("output_config":{"effort":"low"},"model":"deepseek-chat")", true},
        {R"("model":"deepseek-chat")", false},
        {R"("model":"claude-haiku")", true},
    };
    for (const auto& [members, thinks] : cases) {
        const auto mode = read(with(members)).conversation.options.thinking;
        EXPECT_EQ(mode == chat::ThinkingMode::thinking, thinks) << members;
    }
}

TEST(AnthropicFields, LimitsAreClampedOrKept) {
    const GenerationRequest request = read(with(
        R"("max_tokens":40192,"temperature":9,"top_p":-1,"top_k":-3,"min_p":7,"seed":5,"stop_sequences":["","a"])"));
    EXPECT_EQ(request.max_tokens, 40192);
    EXPECT_EQ(request.sampling.temperature, 2.0F);
    EXPECT_GT(request.sampling.top_p, 0.0F);
    EXPECT_EQ(request.sampling.top_k, 0);
    EXPECT_EQ(request.sampling.min_p, 1.0F);
    EXPECT_TRUE(request.has_seed);
    EXPECT_EQ(request.stop, std::vector<std::string>{"a"});
}

// Between "call" and "go on" of the user turn after a call.
std::vector<chat::Message> after_call(const std::string& blocks) {
    return read(
               messages(
                   R"({"role":"user","content":"x"},{"role":"assistant","content":[)"
                   R"({"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f"}]},)"
                   R"({"role":"user","content":[)" +
                   blocks + "]}"))
        .conversation.messages;
}

TEST(AnthropicBlocks, ResultsAndTextKeepTheirOrder) {
    const auto list = after_call(
        R"({"type":"text","text":"one"},{"type":"tool_result","tool_use_id":"b","content":"B"},)"
        R"({"type":"text","text":""},{"type":"tool_result","tool_use_id":"a"},{"type":"text","text":"two"},)"
        R"({"type":"text","text":"three"},{"type":"unheard_of"})");
    ASSERT_EQ(list.size(), 6u);
    EXPECT_EQ(list[1].tool_calls.at(0).arguments, "{}");
    EXPECT_EQ(list[1].tool_calls.at(1).arguments, "");
    EXPECT_EQ(list[2].content, "one");
    EXPECT_EQ(list[3].tool_call_id, "b");
    EXPECT_EQ(list[3].content, "B");
    EXPECT_EQ(list[4].tool_call_id, "a");
    EXPECT_EQ(list[4].content, "");
    EXPECT_EQ(list[5].content, "two\n\nthree");
}

TEST(AnthropicBlocks, AResultMayHoldMedia) {
    const auto list = after_call(
        R"({"type":"tool_result","tool_use_id":"a","content":[{"type":"document"},{"type":"text","text":"t"},{"type":"image"}]})");
    EXPECT_EQ(list.back().content, "[Unsupported document]\n\nt\n\n[Unsupported image]");
}

TEST(AnthropicBlocks, AResultNeedsItsCallBeforeIt) {
    try {
        (void)after_call(R"({"type":"tool_result","tool_use_id":"c","content":"x"})");
        FAIL();
    } catch (const ApiError& error) {
        EXPECT_EQ(error.kind, ErrorKind::invalid_request);
        EXPECT_EQ(error.param, "messages[2].content[0].tool_use_id");
        EXPECT_NE(std::string(error.what()).find("full conversation"), std::string::npos);
    }
}

TEST(AnthropicBlocks, MetadataOfTheClientIsNotForTheModel) {
    const GenerationRequest request = read(
        R"({"system":[{"type":"text","text":"x-anthropic-billing-header: 1"},{"type":"text","text":"be"}],)"
        R"("messages":[{"role":"user","content":"hi"},)"
        R"({"role":"system","content":[{"type":"text","text":"x-anthropic-y"},{"type":"text","text":"types"}]}]})");
    EXPECT_EQ(request.conversation.messages.at(0).content, "be");
    EXPECT_EQ(request.conversation.messages.at(2).content, "types");
}

// Pi with api "anthropic-messages".
TEST(AnthropicBlocks, ReadsWhatPiSends) {
    const GenerationRequest request = read(
        R"({"model":"deepseek-v4-flash","stream":true,"max_tokens":40192,"system":[{"type":"text","text":"You are Pi."}],)"
        R"("thinking":{"type":"enabled","budget_tokens":8192,"display":"summarized"},"messages":[)"
        R"({"role":"user","content":[{"type":"text","text":"list"}]},{"role":"assistant","content":[)"
        R"({"type":"thinking","thinking":" ls.\n","signature":"msg_1"},{"type":"tool_use","id":"toolu_1","name":"bash","input":{"command":"ls"}}]},)"
        R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"a.txt","is_error":false}]}],)"
        R"("tools":[{"name":"bash","description":"Run","input_schema":{"type":"object"},"eager_input_streaming":true}]})");
    EXPECT_EQ(request.thinking_budget, 8192);
    const std::string text = chat::to_text(chat::render(request.conversation));
    EXPECT_NE(text.find("<think> ls.\n</think>\n\n<｜DSML｜tool_calls>"), std::string::npos) << text;
    EXPECT_NE(text.find("<tool_result>a.txt</tool_result>"), std::string::npos);
    EXPECT_TRUE(text.ends_with("<think>"));
}

TEST(AnthropicPrefill, IsContinued) {
    struct Case {
        const char *content, *text;
    };
    const std::vector<Case> cases = {
        {R"("The answer \t\r\n")", "</think>The answer"},
        {R"([{"type":"text","text":"a "},{"type":"text","text":" \n"}])", "</think>a"},
        {R"([{"type":"thinking","thinking":"why\n"},{"type":"text","text":"b"}])", "<think>why\n</think>b"},
        {R"(" ")", "</think>"},
    };
    for (const auto& [content, text] : cases) {
        const GenerationRequest request = read(messages(
            R"({"role":"user","content":"x"},{"role":"assistant","content":)" + std::string(content) + "}"));
        EXPECT_TRUE(request.conversation.messages.back().is_prefix);
        const std::string prompt = chat::to_text(chat::render(request.conversation));
        EXPECT_TRUE(prompt.ends_with(text)) << prompt;
    }
}

TEST(AnthropicCountTokens, IsTheSamePromptWithoutAnAnswer) {
    const std::string body = with(R"("tools":[],"system":"s","thinking":{"type":"disabled"})");
    const auto text = [](const GenerationRequest& request) {
        return chat::to_text(chat::render(request.conversation));
    };
    EXPECT_EQ(text(parse_count_tokens(parse_body(body))), text(read(body)));
    EXPECT_THROW((void)parse_count_tokens(parse_body(R"({"messages":[]})")), ApiError);
}

}  // namespace
}  // namespace ds4::server
