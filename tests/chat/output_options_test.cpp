// Stop strings, drifted calls, and what the sampler asks of the parser.
#include <gtest/gtest.h>

#include <random>

#include "chat/json_style.h"
#include "chat/output_parser.h"
#include "chat/parse_output.h"
#include "chat/protocol.h"

namespace ds4::chat {
namespace {

using Options = OutputParser::Options;
using Start = Prompt::Start;

const std::string dsml(protocol::dsml);
const std::string kOpen = "<" + dsml + "tool_calls>\n<" + dsml + "invoke name=\"run\">\n";
const std::string kClose = "</" + dsml + "invoke>\n</" + dsml + "tool_calls>";

std::string parameter(const std::string& name, const std::string& attributes, const std::string& value) {
    return "<" + dsml + "parameter name=\"" + name + "\"" + attributes + ">" + value + "</" + dsml +
           "parameter>\n";
}
std::string text_parameter(const std::string& name, const std::string& value) {
    return parameter(name, " string=\"true\"", value);
}
std::string json_parameter(const std::string& name, const std::string& value) {
    return parameter(name, " string=\"false\"", value);
}

// The outcome, after checking that no split in two changes it.
ParsedOutput parse_split(const std::string& text, const Options& options, OutputEnd end = OutputEnd::eos) {
    const ParsedOutput whole = parse_output(text, options, end);
    for (std::size_t i = 0; i <= text.size(); ++i) {
        OutputParser parser(options);
        std::string content, reasoning, arguments;
        std::vector<OutputEvent> events = parser.push(text.substr(0, i));
        for (auto& event : parser.push(text.substr(i))) events.push_back(event);
        for (auto& event : parser.finish(end)) events.push_back(event);
        for (const OutputEvent& event : events) {
            if (event.kind == OutputEvent::Kind::content) content += event.text;
            if (event.kind == OutputEvent::Kind::reasoning) reasoning += event.text;
            if (event.kind == OutputEvent::Kind::call_begin) arguments.clear();
            if (event.kind == OutputEvent::Kind::arguments) arguments += event.text;
            if (event.kind == OutputEvent::Kind::call_end) {
                EXPECT_EQ(dump_python(parse_json(arguments)), dump_python(parse_json(event.text)))
                    << "split at " << i;
            }
        }
        if (whole.finish_reason != FinishReason::tool_calls || whole.calls.empty()) {
            EXPECT_EQ(content, whole.content) << "split at " << i;
        }
        EXPECT_EQ(reasoning, whole.reasoning) << "split at " << i;
    }
    return whole;
}

std::string arguments_of(const std::string& block, const Options& options) {
    const ParsedOutput output = parse_split(block, options);
    EXPECT_EQ(output.finish_reason, FinishReason::tool_calls);
    return output.calls.empty() ? "none" : output.calls.front().arguments;
}

// ---- stop strings ----

TEST(StopStrings, CutContentAtTheEarliest) {
    const Options options{.start = Start::content, .stop = {"END", "four", "three f"}};
    const ParsedOutput output = parse_split("one two three four END", options);
    EXPECT_EQ(output.content, "one two ");
    EXPECT_EQ(output.finish_reason, FinishReason::stop_sequence);
    OutputParser parser(options);
    (void)parser.push("one two three four");
    EXPECT_TRUE(parser.is_done());
    EXPECT_EQ(parser.stop_sequence(), "three f");
}

TEST(StopStrings, BeginningsComeOutWhenDisproved) {
    const Options options{.start = Start::content, .offers_tools = true, .stop = {"ENDING", "\n\n\n"}};
    EXPECT_EQ(parse_split("the END of it\n\nEN", options).content, "the END of it\n\nEN");
    EXPECT_EQ(parse_split("a\n\n\nb", options).content, "a");
}

TEST(StopStrings, AreForContentOnly) {
    const Options options{.start = Start::reasoning, .offers_tools = true, .stop = {"ls", "\n\n", "why"}};
    const ParsedOutput output = parse_split(
        "why ls</think>Fine.\n\n" + kOpen + text_parameter("command", "ls why") + kClose, options);
    EXPECT_EQ(output.reasoning, "why ls");
    EXPECT_EQ(output.content, "Fine.");
    ASSERT_EQ(output.calls.size(), 1u);
    EXPECT_EQ(output.calls[0].arguments, R"({"command":"ls why"})");
}

// ---- drifted calls ----

TEST(NestedParameters, BecomeObjects) {
    const Options options{.start = Start::content, .offers_tools = true};
    EXPECT_EQ(
        arguments_of(kOpen +
                         parameter("o", "", "\n" + text_parameter("a", "x") + json_parameter("b", "[1, 2]")) +
                         kClose,
                     options),
        R"({"o":{"a":"x","b":[1,2]}})");
    EXPECT_EQ(
        arguments_of(kOpen + text_parameter("p", "1") +
                         parameter("o", " string=\"object\"", parameter("i", "", text_parameter("a", "x"))) +
                         json_parameter("q", "2") + kClose,
                     options),
        R"({"p":"1","o":{"i":{"a":"x"}},"q":2})");
    // Text that only looks a little like it stays text.
    EXPECT_EQ(arguments_of(kOpen + parameter("o", "", " <b>bold</b>") + kClose, options),
              R"({"o":" <b>bold</b>"})");
    EXPECT_EQ(arguments_of(kOpen + parameter("o", "", "") + kClose, options), R"({"o":""})");
}

TEST(NestedParameters, AreRepairedAtTheEnd) {
    const Options options{.start = Start::content, .offers_tools = true};
    const std::string open_object = kOpen + "<" + dsml + "parameter name=\"o\">" + text_parameter("a", "x");
    for (const std::string& tail :
         {std::string(), "</" + dsml + "para", "</" + dsml + "parameter>\n</" + dsml + "inv"}) {
        EXPECT_EQ(arguments_of(open_object + tail, options), R"({"o":{"a":"x"}})") << tail;
    }
}

TEST(Wrapper, IsTakenOffWhenItsKeysAreTheTools) {
    const Options options{
        .start = Start::content, .offers_tools = true, .tools = {{"run", {"command", "timeout"}}}};
    const std::string inner = R"({"command": "ls", "timeout": 5})";
    EXPECT_EQ(arguments_of(kOpen + json_parameter("arguments", inner) + kClose, options),
              R"({"command":"ls","timeout":5})");
    EXPECT_EQ(arguments_of(kOpen + json_parameter("input", inner) + kClose, options),
              R"({"command":"ls","timeout":5})");
    // Another key, another parameter, another tool, a string: all as they are.
    EXPECT_EQ(arguments_of(kOpen + json_parameter("arguments", R"({"other":1})") + kClose, options),
              R"({"arguments":{"other":1}})");
    EXPECT_EQ(
        arguments_of(kOpen + json_parameter("arguments", inner) + text_parameter("command", "x") + kClose,
                     options),
        R"({"arguments":{"command":"ls","timeout":5},"command":"x"})");
    EXPECT_EQ(arguments_of(kOpen + text_parameter("arguments", "{}") + kClose, options),
              R"({"arguments":"{}"})");
    const Options declared{
        .start = Start::content, .offers_tools = true, .tools = {{"run", {"arguments", "command"}}}};
    EXPECT_EQ(arguments_of(kOpen + json_parameter("arguments", R"({"command":1})") + kClose, declared),
              R"({"arguments":{"command":1}})");
}

TEST(BrokenBlock, IsHeldForAnotherTry) {
    Options options{.start = Start::content, .offers_tools = true, .holds_broken_block = true};
    const std::string junk = "\n\n<" + dsml + "tool_calls>\njunk";
    for (const std::string& text : {"Text." + junk, "Text.\n\n" + kOpen + "junk"}) {
        OutputParser parser(options);
        (void)parser.push(text);
        EXPECT_TRUE(parser.is_done());
        EXPECT_EQ(parser.finish_reason(), FinishReason::broken_block);
        EXPECT_TRUE(("Text." + parser.raw_block()) == text) << parser.raw_block();
    }
    // With a complete call the rest is dropped as ever.
    const std::string one = kOpen + text_parameter("a", "x") + "</" + dsml + "invoke>\njunk";
    EXPECT_EQ(arguments_of(one, options), R"({"a":"x"})");
}

TEST(BrokenBlock, TagsAreNotWaitedForWithoutEnd) {
    const Options options{.start = Start::content, .offers_tools = true};
    OutputParser parser(options);
    std::string content;
    for (int i = 0; i < 400; ++i) {
        const auto events =
            parser.push(i == 0 ? "<" + dsml + "tool_calls>\n<" + dsml + "invoke name=\"" : "endless name ");
        for (const OutputEvent& event : events) content += event.text;
    }
    EXPECT_TRUE(content.starts_with("<" + dsml + "tool_calls>\n<" + dsml + "invoke name=\"endless"));
}

// ---- what the sampler asks ----

TEST(NextIsSyntax, FollowsTheGrammar) {
    // Character by character: s is syntax, . is not.
    const std::vector<std::pair<std::string, char>> pieces = {
        {"Text with <b> and \"", '.'},
        {"\n\n<" + dsml + "tool_calls>", '.'},  // until the start tag is complete
        {"\n<" + dsml + "invoke name=\"run\">\n<" + dsml + "parameter name=\"a\" string=\"true\">", 's'},
        {"free <text> &lt; \"here\"", '.'},
        {"</" + dsml + "parameter>\n<" + dsml + "parameter name=\"b\" string=\"false\">", 's'},
        {"{\"key", 'j'},
        {"\": [1, true, \"a", 'j'},
        {"\\\"b\"]}", 'j'},
        {"</" + dsml + "parameter>\n</" + dsml + "invoke>\n</" + dsml, 's'},
    };
    OutputParser parser({.start = Start::content, .offers_tools = true});
    bool in_string = false;
    for (const auto& [text, kind] : pieces) {
        for (std::size_t i = 0; i < text.size(); ++i) {
            const bool is_utf8_rest = (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
            // A lone "<" in text is still open; the first "<" and the first character of a closing tag are
            // text's.
            const bool is_tag_start = kind == 's' && i < 2 && text.starts_with("</");
            if (!is_utf8_rest && !is_tag_start && i > 0) {
                const bool expected = kind == 's' || (kind == 'j' && !in_string);
                EXPECT_EQ(parser.next_is_syntax(), expected) << text.substr(0, i) << "|" << text.substr(i);
            }
            if (kind == 'j' && text[i] == '"' && (i == 0 || text[i - 1] != '\\')) in_string = !in_string;
            (void)parser.push(text.substr(i, 1));
        }
    }
}

TEST(NextIsSyntax, IsNeverInReasoning) {
    OutputParser parser({.start = Start::reasoning, .offers_tools = true});
    (void)parser.push("quoting <" + dsml + "tool_calls>\n<" + dsml + "invoke");
    EXPECT_FALSE(parser.next_is_syntax());
    EXPECT_TRUE(parser.in_reasoning());
    EXPECT_FALSE(parser.in_block());
    (void)parser.push("\xC3");
    EXPECT_TRUE(parser.has_partial_character());
}

TEST(ToolShapes, NameTheProperties) {
    const auto shapes = tool_shapes(
        {R"({"name": "f", "parameters": {"properties": {"b": {}, "a": {}}}})", R"({"name": "g"})"});
    ASSERT_EQ(shapes.size(), 2u);
    EXPECT_EQ(shapes[0].name, "f");
    EXPECT_EQ(shapes[0].properties, (std::vector<std::string>{"b", "a"}));
    EXPECT_TRUE(shapes[1].properties.empty());
}

}  // namespace
}  // namespace ds4::chat
