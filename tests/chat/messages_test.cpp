#include "chat/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ds4/error.h"

namespace ds4::chat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view user = R"("messages":[{"role":"user","content":"hi"}])";

Conversation with(const std::string& fields) {
    return parse_request("{" + std::string(user) + (fields.empty() ? "" : ",") + fields + "}");
}

Message one_message(const std::string& json) {
    return parse_request("[" + json + "]").messages.at(0);
}

TEST(ParseRequest, Defaults) {
    const Conversation conversation = with("");
    EXPECT_EQ(conversation.messages.size(), 1u);
    EXPECT_EQ(conversation.messages[0].role, Role::user);
    EXPECT_EQ(conversation.messages[0].content, "hi");
    EXPECT_EQ(conversation.options.thinking, ThinkingMode::thinking);
    EXPECT_EQ(conversation.options.effort, Effort::high);
    EXPECT_EQ(conversation.options.behaviour, Behaviour::recommended);
    EXPECT_TRUE(conversation.options.drop_thinking);
}

TEST(ParseRequest, ThinkingAndEffort) {
    const struct {
        const char* fields;
        ThinkingMode thinking;
        Effort effort;
    } cases[] = {
        {R"("thinking":{"type":"disabled"})", ThinkingMode::chat, Effort::high},
        {R"("thinking":{"type":"adaptive"})", ThinkingMode::thinking, Effort::high},
        {R"("think":false)", ThinkingMode::chat, Effort::high},
        {R"("enable_thinking":false)", ThinkingMode::chat, Effort::high},
        {R"("think":true,"enable_thinking":false)", ThinkingMode::thinking, Effort::high},
        {R"("reasoning_effort":"none")", ThinkingMode::chat, Effort::high},
        {R"("thinking":{"type":"enabled"},"reasoning_effort":"none")", ThinkingMode::thinking, Effort::high},
        {R"("thinking":{"type":"disabled"},"reasoning_effort":"max")", ThinkingMode::chat, Effort::max},
        {R"("reasoning_effort":"minimal")", ThinkingMode::thinking, Effort::low},
        {R"("reasoning_effort":"medium")", ThinkingMode::thinking, Effort::high},
        {R"("reasoning_effort":"xhigh")", ThinkingMode::thinking, Effort::high},
        {R"("reasoning_effort":"max")", ThinkingMode::thinking, Effort::max},
        {R"("reasoning_effort":"new-level")", ThinkingMode::thinking, Effort::high},
        {R"("reasoning_effort":null,"thinking":null)", ThinkingMode::thinking, Effort::high},
        {R"("options":{"thinking_mode":"chat","reasoning_effort":"max"})", ThinkingMode::chat, Effort::max},
    };
    for (const auto& [fields, thinking, effort] : cases) {
        const RenderOptions options = with(fields).options;
        EXPECT_EQ(options.thinking, thinking) << fields;
        EXPECT_EQ(options.effort, effort) << fields;
    }
}

TEST(ParseRequest, TestOptions) {
    const RenderOptions options =
        with(
            R"("options":{"effort_scheme":"0731","drop_thinking":false,"tools_first":true,"vendor_exact":true})")
            .options;
    EXPECT_EQ(options.effort_scheme, EffortScheme::release_0731);
    EXPECT_FALSE(options.drop_thinking);
    EXPECT_TRUE(options.tools_first);
    EXPECT_EQ(options.behaviour, Behaviour::vendor_exact);
}

TEST(ParseRequest, ContentLists) {
    EXPECT_EQ(one_message(R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},
                              {"type":"input_text","text":"b"}]})")
                  .content,
              "a\n\n[Unsupported image_url]\n\nb");
    EXPECT_EQ(
        one_message(
            R"({"role":"assistant","content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"b"}]})")
            .content,
        "ab");
    EXPECT_EQ(
        one_message(R"({"role":"system","content":[{"type":"text","text":"x-anthropic-billing-header: 1"},
                              {"type":"text","text":"b"}]})")
            .content,
        "b");
    EXPECT_EQ(one_message(R"({"role":"user","content":null})").content, "");
    EXPECT_EQ(one_message(R"({"role":"user"})").content, "");
}

TEST(ParseRequest, AssistantFields) {
    const Message message =
        one_message(R"({"role":"assistant","content":"c","reasoning_content":"r","prefix":true,
        "tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}},
                      {"function":{"name":"g","arguments":{"b":1.50}}},{"function":{"name":"h"}}]})");
    EXPECT_EQ(message.reasoning, "r");
    EXPECT_TRUE(message.is_prefix);
    ASSERT_EQ(message.tool_calls.size(), 3u);
    EXPECT_EQ(message.tool_calls[0].id, "1");
    EXPECT_EQ(message.tool_calls[0].arguments, R"({"a":1})");
    EXPECT_EQ(message.tool_calls[1].arguments, R"({"b": 1.5})");
    EXPECT_EQ(message.tool_calls[2].arguments, "");
    EXPECT_EQ(one_message(R"({"role":"assistant","reasoning":"x"})").reasoning, "x");
    EXPECT_EQ(one_message(R"({"role":"assistant"})").reasoning, std::nullopt);
    EXPECT_EQ(one_message(R"({"role":"function","name":"f","content":"r"})").role, Role::tool);
}

TEST(ParseRequest, Tools) {
    EXPECT_THAT(
        with(R"("tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{}}}])").tools,
        ElementsAre(R"({"name": "f", "strict": true, "parameters": {}})"));
    EXPECT_THAT(
        with(
            R"("tools":[{"input_schema":{"type":"object"},"cache_control":{},"description":"d","name":"f"}])")
            .tools,
        ElementsAre(R"({"name": "f", "description": "d", "parameters": {"type": "object"}})"));
    EXPECT_TRUE(with(R"("tool_choice":"none","tools":[{"function":{"name":"f"}}])").tools.empty());
    EXPECT_TRUE(with(R"("tools":null)").tools.empty());
}

TEST(ParseRequest, ResponseFormat) {
    EXPECT_EQ(with(R"("response_format":{"type":"text"})").response_schema, std::nullopt);
    EXPECT_EQ(with(R"("response_format":{"type":"json_object"})").response_schema, R"({"type": "object"})");
    EXPECT_EQ(with(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"a":[]}}})")
                  .response_schema,
              R"({"a": []})");
}

TEST(ParseRequest, NamesTheWrongField) {
    const std::pair<std::string, const char*> cases[] = {
        {"{}", "messages is missing"},
        {"3", "the request must be"},
        {"[]", "messages is empty"},
        {R"({"messages":{}})", "messages must be a list"},
        {"[3]", "messages[0] must be an object"},
        {R"([{"content":"x"}])", "messages[0].role is missing"},
        {R"([{"role":3}])", "messages[0].role must be a string"},
        {R"([{"role":"user"},{"role":"bot"}])", "messages[1].role is 'bot', expected one of system"},
        {R"([{"role":"user","content":3}])", "messages[0].content must be"},
        {R"([{"role":"user","content":[3]}])", "messages[0].content[0] must be"},
        {R"([{"role":"user","content":[{"text":"x"}]}])", "messages[0].content[0].type is missing"},
        {R"([{"role":"user","content":[{"type":"text","text":1}]}])", "messages[0].content[0].text must be"},
        {R"([{"role":"user","task":"nap"}])", "messages[0].task is 'nap'"},
        {R"([{"role":"assistant","reasoning_content":3}])", "messages[0].reasoning_content must be"},
        {R"([{"role":"assistant","tool_calls":{}}])", "messages[0].tool_calls must be a list"},
        {R"([{"role":"assistant","tool_calls":[{}]}])", "messages[0].tool_calls[0].function must be"},
        {R"([{"role":"assistant","tool_calls":[{"function":{}}]}])",
         "messages[0].tool_calls[0].function.name is missing"},
        {R"([{"role":"assistant","prefix":1}])", "messages[0].prefix must be true or false"},
        {R"({"messages":[{"role":"user"}],"tools":[{}]})", "tools[0].function is missing"},
        {R"({"messages":[{"role":"user"}],"tools":[{"function":{}}]})", "tools[0].function.name is missing"},
        {R"({"messages":[{"role":"user"}],"think":"yes"})", "think must be true or false"},
        {R"({"messages":[{"role":"user"}],"thinking":{}})", "thinking.type is missing"},
        {R"({"messages":[{"role":"user"}],"thinking":{"type":"x"}})", "thinking.type is 'x'"},
        {R"({"messages":[{"role":"user"}],"reasoning_effort":3})", "reasoning_effort must be a string"},
        {R"({"messages":[{"role":"user"}],"response_format":{"type":"xml"}})",
         "response_format.type is 'xml'"},
        {R"({"messages":[{"role":"user"}],"response_format":{"type":"json_schema"}})",
         "json_schema.schema is missing"},
        {R"({"messages":[{"role":"user"}],"options":3})", "options must be an object"},
        {R"({"messages":[{"role":"user"}],"options":{"effort_scheme":"1"}})", "options.effort_scheme is '1'"},
        {"{", "not valid JSON at byte"},
    };
    for (const auto& [request, complaint] : cases) {
        try {
            parse_request(request);
            ADD_FAILURE() << "accepted: " << request;
        } catch (const PromptError& e) {
            EXPECT_THAT(e.what(), HasSubstr(complaint));
        }
    }
}

}  // namespace
}  // namespace ds4::chat
