#include "chat/output_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "chat/json_style.h"
#include "chat/parse_output.h"
#include "chat/protocol.h"
#include "chat/test_files.h"

namespace ds4::chat {
namespace {

using Kind = OutputEvent::Kind;
using Options = OutputParser::Options;
using Ordered = nlohmann::ordered_json;
using Start = Prompt::Start;

// Events with neighbours of one kind joined, and how it ended: what must not depend on the portions.
struct Transcript {
    std::vector<OutputEvent> events;
    FinishReason finish_reason = FinishReason::stop;

    bool operator==(const Transcript&) const = default;
};

void PrintTo(const Transcript& transcript, std::ostream* out) {
    for (const OutputEvent& event : transcript.events)
        *out << int(event.kind) << ":" << quote_python(event.text) << " ";
    *out << "finish " << int(transcript.finish_reason);
}

class Recorder {
  public:
    explicit Recorder(Options options) : parser_(options) {}

    void push(std::string_view bytes) { add(parser_.push(bytes)); }
    Transcript finish(OutputEnd end) {
        add(parser_.finish(end));
        transcript_.finish_reason = parser_.finish_reason();
        return transcript_;
    }

  private:
    void add(const std::vector<OutputEvent>& events) {
        for (const OutputEvent& event : events) {
            EXPECT_EQ(tokenizer::utf8_valid_prefix(event.text), event.text.size());
            const bool joins =
                event.kind == Kind::reasoning || event.kind == Kind::content || event.kind == Kind::arguments;
            if (joins && !transcript_.events.empty() && transcript_.events.back().kind == event.kind) {
                transcript_.events.back().text += event.text;
            } else {
                transcript_.events.push_back(event);
            }
        }
    }

    OutputParser parser_;
    Transcript transcript_;
};

Transcript parse_portions(const std::vector<std::string_view>& portions, Options options, OutputEnd end) {
    Recorder recorder(options);
    for (const std::string_view portion : portions) recorder.push(portion);
    return recorder.finish(end);
}

// One push, every split in two, and byte by byte.
void expect_same_in_all_portions(const std::string& text, Options options, OutputEnd end) {
    const std::string_view all = text;
    const Transcript whole = parse_portions({all}, options, end);
    for (std::size_t i = 0; i <= all.size(); ++i) {
        ASSERT_EQ(parse_portions({all.substr(0, i), all.substr(i)}, options, end), whole) << "split at " << i;
    }
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < all.size(); ++i) bytes.push_back(all.substr(i, 1));
    ASSERT_EQ(parse_portions(bytes, options, end), whole) << "byte by byte";
}

// Arguments as they were streamed, which must read as the final object does.
void expect_streamed_arguments_match(const Transcript& transcript) {
    std::string streamed;
    for (const OutputEvent& event : transcript.events) {
        if (event.kind == Kind::call_begin) streamed.clear();
        if (event.kind == Kind::arguments) streamed += event.text;
        if (event.kind == Kind::call_end) {
            EXPECT_EQ(dump_python(parse_json(streamed)), dump_python(parse_json(event.text)));
        }
    }
}

struct FixtureCase {
    std::string name, text;
    Options options;
    Ordered json;
};

std::vector<FixtureCase> fixture_cases() {
    std::vector<FixtureCase> cases;
    for (const auto& json : test::read_json("encoding/extra_parse_cases.json")) {
        auto text = json["text"].get<std::string>();
        if (text.ends_with(protocol::eos)) text.resize(text.size() - protocol::eos.size());
        const bool thinks = json["thinking_mode"] == "thinking";
        cases.push_back({json["name"], text, {thinks ? Start::reasoning : Start::content, true}, json});
    }
    return cases;
}

TEST(OutputParser, Fixtures) {
    const auto cases = fixture_cases();
    EXPECT_EQ(cases.size(), 17u);
    for (const FixtureCase& fixture : cases) {
        if (!fixture.json.contains("expected")) continue;
        const Ordered& expected = fixture.json["expected"];
        const ParsedOutput output = parse_output(fixture.text, fixture.options, OutputEnd::eos);
        EXPECT_EQ(output.reasoning, expected["reasoning_content"]) << fixture.name;
        EXPECT_EQ(output.content, expected["content"]) << fixture.name;
        const Ordered& calls = expected["tool_calls"];
        ASSERT_EQ(output.calls.size(), calls.size()) << fixture.name;
        EXPECT_EQ(output.finish_reason, calls.empty() ? FinishReason::stop : FinishReason::tool_calls);
        for (std::size_t i = 0; i < calls.size(); ++i) {
            const Ordered& function = calls[i]["function"];
            EXPECT_EQ(output.calls[i].name, function["name"]);
            EXPECT_EQ(Ordered::parse(output.calls[i].arguments),
                      Ordered::parse(function["arguments"].get<std::string>()));
        }
    }
}

TEST(OutputParser, WhatTheStrictParserRefuses) {
    const std::string block_in_reasoning = fixture_cases()[11].text;
    using Calls = std::vector<ParsedOutput::Call>;
    const Calls a_is_x = {{"f", R"({"a":"x"})"}};
    const std::map<std::string, ParsedOutput> outcomes = {
        {"thinking_not_closed", {"reason only", "", {}, FinishReason::stop}},
        {"no_eos", {"", "Hello", {}, FinishReason::stop}},
        {"call_inside_thinking",
         {block_in_reasoning.substr(0, block_in_reasoning.find("</think>")), "done", {}, FinishReason::stop}},
        {"text_after_block", {"x", "", a_is_x, FinishReason::tool_calls}},
        {"dup_param", {"x", "", {{"f", R"({"a":"y"})"}}, FinishReason::tool_calls}},
        {"missing_string_attr", {"x", "", a_is_x, FinishReason::tool_calls}},
        {"block_without_blank_line", {"x", "", a_is_x, FinishReason::tool_calls}},
        {"unterminated", {"x", "", a_is_x, FinishReason::tool_calls}},
    };
    std::size_t n_seen = 0;
    for (const FixtureCase& fixture : fixture_cases()) {
        if (!fixture.json.contains("strict_error")) continue;
        ++n_seen;
        EXPECT_EQ(parse_output(fixture.text, fixture.options, OutputEnd::eos), outcomes.at(fixture.name))
            << fixture.name;
        if (fixture.name == "unterminated") {
            EXPECT_EQ(parse_output(fixture.text, fixture.options, OutputEnd::length),
                      (ParsedOutput{"x", "", {}, FinishReason::length}));
        }
    }
    EXPECT_EQ(n_seen, outcomes.size());
}

TEST(OutputParser, PortionsDoNotMatter) {
    for (const FixtureCase& fixture : fixture_cases()) {
        for (const OutputEnd end : {OutputEnd::eos, OutputEnd::length}) {
            SCOPED_TRACE(fixture.name);
            expect_same_in_all_portions(fixture.text, fixture.options, end);
            expect_same_in_all_portions(fixture.text, {fixture.options.start, false}, end);
            expect_streamed_arguments_match(parse_portions({fixture.text}, fixture.options, end));
        }
    }
}

TEST(OutputParser, EveryPrefixInAllPortions) {
    for (const FixtureCase& fixture : fixture_cases()) {
        SCOPED_TRACE(fixture.name);
        for (std::size_t n = 0; n < fixture.text.size(); n += n < 40 ? 1 : 3) {
            for (const OutputEnd end : {OutputEnd::eos, OutputEnd::length}) {
                expect_same_in_all_portions(fixture.text.substr(0, n), fixture.options, end);
            }
        }
    }
}

TEST(OutputParser, NothingOfAMarkerShowsEarly) {
    for (const FixtureCase& fixture : fixture_cases()) {
        if (!fixture.json.contains("expected")) continue;
        OutputParser parser(fixture.options);
        for (const char byte : fixture.text) {
            for (const OutputEvent& event : parser.push({&byte, 1})) {
                EXPECT_EQ(event.text.find("</t"), std::string::npos) << fixture.name;
                EXPECT_EQ(event.text.find("DSML"), std::string::npos) << fixture.name;
            }
        }
        EXPECT_EQ(parser.is_done(), !fixture.json["expected"]["tool_calls"].empty()) << fixture.name;
    }
}

// ---- splitting reasoning from content, no tools ----

ParsedOutput split_thinking(std::string_view text) {
    return parse_output(text, {Start::reasoning, false}, OutputEnd::eos);
}

TEST(OutputParser, ReasoningEndsAtTheFirstEndThink) {
    EXPECT_EQ(split_thinking("a</think>b</think>c"),
              (ParsedOutput{"a", "b</think>c", {}, FinishReason::stop}));
    EXPECT_EQ(split_thinking("a</thin"), (ParsedOutput{"a</thin", "", {}, FinishReason::stop}));
    EXPECT_EQ(split_thinking("a <b </think >"), (ParsedOutput{"a <b </think >", "", {}, FinishReason::stop}));
    EXPECT_EQ(split_thinking("<think>a<think>b</think>\n\nc"),
              (ParsedOutput{"a<think>b", "\n\nc", {}, FinishReason::stop}));
    EXPECT_EQ(split_thinking("<thin"), (ParsedOutput{"<thin", "", {}, FinishReason::stop}));
    EXPECT_EQ(split_thinking(""), ParsedOutput{});
    EXPECT_EQ(parse_output("<think>x</think>", {Start::content, true}, OutputEnd::eos).content,
              "<think>x</think>");
}

TEST(OutputParser, HeldTextComesOutAtTheEnd) {
    EXPECT_EQ(parse_output("1 < 2 <", {Start::content, true}, OutputEnd::eos).content, "1 < 2 <");
    EXPECT_EQ(parse_output("x \n ", {Start::content, true}, OutputEnd::eos).content, "x \n ");
    EXPECT_EQ(parse_output("x\n<tool_calls>\n", {Start::content, true}, OutputEnd::eos).content,
              "x\n<tool_calls>\n");
    EXPECT_EQ(parse_output("x\xE4\xBD", {Start::content, true}, OutputEnd::eos).content, "x\uFFFD");
}

TEST(OutputParser, CallSyntaxIsTextWithoutTools) {
    const std::string text = fixture_cases()[6].text;
    EXPECT_EQ(parse_output(text, {Start::content, false}, OutputEnd::eos),
              (ParsedOutput{"", text, {}, FinishReason::stop}));
}

TEST(OutputParser, CallInReasoning) {
    const std::string marker = "<｜DSML｜tool_calls>";
    const Options options = {Start::reasoning, true};
    // Forced end: the marker goes.
    EXPECT_EQ(
        parse_portions({"r\n\n" + marker, "</think>\n\nx"}, options, OutputEnd::eos),
        (Transcript{{{Kind::reasoning, "r\n\n"}, {Kind::call_in_reasoning, ""}, {Kind::content, "\n\nx"}},
                    FinishReason::stop}));
    // Only quoted: it comes out.
    EXPECT_EQ(
        parse_portions({"r" + marker + "s</think>"}, options, OutputEnd::eos),
        (Transcript{{{Kind::reasoning, "r"}, {Kind::call_in_reasoning, ""}, {Kind::reasoning, marker + "s"}},
                    FinishReason::stop}));
}

// ---- call blocks ----

std::string respell(std::string text, const std::string& infix) {
    for (std::size_t at = 0; (at = text.find(protocol::dsml, at)) != std::string::npos; at += infix.size()) {
        text.replace(at, protocol::dsml.size(), infix);
    }
    return text;
}

// "|" stands for the DSML token.
ParsedOutput parse_block(std::string text, OutputEnd end = OutputEnd::eos,
                         const std::string& infix = "｜DSML｜") {
    for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += infix.size()) {
        text.replace(at, 1, infix);
    }
    const Options options = {Start::content, true};
    expect_same_in_all_portions(text, options, end);
    return parse_output(text, options, end);
}

TEST(OutputParser, AllSpellings) {
    for (const char* infix : {"｜DSML｜", "DSML｜", ""}) {
        const ParsedOutput output = parse_block(
            "hi \n<|tool_calls> <|invoke x=\"\" name=\"f\"><|parameter string=\"true\" name=\"a\"> "
            "&lt;/|parameter> "
            "&lt;b</|b></|parameter></|invoke>\n\n</|tool_calls>",
            OutputEnd::eos, infix);
        EXPECT_EQ(output.content, "hi");
        ASSERT_EQ(output.calls.size(), 1u) << infix;
        EXPECT_EQ(parse_json(output.calls[0].arguments).find("a")->text,
                  respell(" </｜DSML｜parameter> &lt;b</｜DSML｜b>", infix));
    }
}

TEST(OutputParser, JsonValues) {
    const auto value = [](const std::string& text) {
        const ParsedOutput output =
            parse_block("<|tool_calls><|invoke name=\"f\"><|parameter name=\"a\" string=\"false\">" + text +
                        "</|parameter></|invoke></|tool_calls>");
        return output.calls.at(0).arguments;
    };
    EXPECT_EQ(value("3"), R"({"a":3})");
    EXPECT_EQ(value(" { \"k\" : [1.50, \"a b\\\" c\"] }\n"), R"({"a":{"k":[1.50,"a b\" c"]}})");
    EXPECT_EQ(value("NaN"), R"({"a":"NaN"})");
    EXPECT_EQ(value("{'x': 1}"), R"({"a":"{'x': 1}"})");
    EXPECT_EQ(value(""), R"({"a":""})");
    EXPECT_EQ(value("\"\\u003c/|parameter>\""), "{\"a\":\"\\u003c/｜DSML｜parameter>\"}");
}

TEST(OutputParser, TruncatedByEos) {
    const std::string head =
        "t\n\n<|tool_calls>\n<|invoke name=\"f\">\n<|parameter name=\"a\" string=\"true\">x";
    const ParsedOutput repaired = {"", "t", {{"f", R"({"a":"x"})"}}, FinishReason::tool_calls};
    EXPECT_EQ(parse_block(head), repaired);
    EXPECT_EQ(parse_block(head + "</|"), repaired);
    EXPECT_EQ(parse_block(head + "</|para"), repaired);
    EXPECT_EQ(parse_block(head + "</|parameter>\n"), repaired);
    EXPECT_EQ(parse_block(head + "</|parameter>\n<"), repaired);
    EXPECT_EQ(parse_block(head + "</|parameter>\n</|invoke"), repaired);
    EXPECT_EQ(parse_block(head + "</|parameter>\n</|invoke>\n"), repaired);
    EXPECT_EQ(parse_block(head + "</|parameter>\n</|invoke>\n</|tool_c"), repaired);
    // A new call was begun: not only closings are missing, but the first call is whole.
    EXPECT_EQ(parse_block(head + "</|parameter>\n</|invoke>\n<|invoke na"), repaired);
    // "<" and "</" may belong to the value.
    EXPECT_EQ(parse_block(head + "</").calls.at(0).arguments, R"({"a":"x</"})");
}

TEST(OutputParser, TruncatedByLength) {
    const std::string call = "<|tool_calls>\n<|invoke name=\"f\">\n</|invoke>\n";
    const ParsedOutput whole = {"", "", {{"f", "{}"}}, FinishReason::tool_calls};
    EXPECT_EQ(parse_block(call, OutputEnd::length), whole);
    EXPECT_EQ(parse_block(call + "<|invoke name=", OutputEnd::length), whole);
    const std::string partial = call + "<|invoke name=\"g\">\n<|parameter name=\"a\" string=\"true\">x";
    EXPECT_EQ(parse_block(partial, OutputEnd::length),
              (ParsedOutput{"", "", {{"f", "{}"}}, FinishReason::length}));
}

TEST(OutputParser, BrokenBlocks) {
    // Nothing announced: the raw text is content.
    for (const char* text : {"a \n<|tool_calls>junk b", "a\n<|tool_calls>", "a<|tool_calls></|tool_calls> b",
                             "a<|tool_calls><|invoke>x</|invoke>", "a<|tool_calls><|invoke name=\"f"}) {
        std::string raw = text;
        for (std::size_t at; (at = raw.find('|')) != std::string::npos;) raw.replace(at, 1, "｜DSML｜");
        EXPECT_EQ(parse_block(text), (ParsedOutput{"", raw, {}, FinishReason::stop})) << text;
        EXPECT_EQ(parse_block(text, OutputEnd::length), (ParsedOutput{"", raw, {}, FinishReason::length}))
            << text;
    }
    // After a whole call the rest is dropped.
    EXPECT_EQ(parse_block("<|tool_calls><|invoke name=\"f\"></|invoke>junk"),
              (ParsedOutput{"", "", {{"f", "{}"}}, FinishReason::tool_calls}));
    // An announced call that breaks is an error for a stream, text for a whole answer.
    const std::string text = "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\">junk";
    EXPECT_EQ(parse_portions({text}, {Start::content, true}, OutputEnd::eos).finish_reason,
              FinishReason::error);
    EXPECT_EQ(parse_output(text, {Start::content, true}, OutputEnd::eos).finish_reason, FinishReason::stop);
}

TEST(OutputParser, ReadsBackWhatTheRendererWrites) {
    const std::vector<std::string> pieces = {
        "</",         "<",      "&lt;", "&",  "</｜DSML｜", "</｜DSML｜parameter>",
        "｜",         "\"",     "\\",   "\n", "\t",         "\x01",
        "\U0001F600", "\u4F60", " ",    "a",  "</think>",   "<tool_calls>"};
    std::mt19937 rng(10);
    const auto random_string = [&] {
        std::string text;
        for (std::size_t i = rng() % 12; i > 0; --i) text += pieces[rng() % pieces.size()];
        return text;
    };
    for (int round = 0; round < 500; ++round) {
        std::string arguments = "{";
        for (std::size_t i = 0, n = rng() % 4; i < n; ++i) {
            const std::string value = quote_python(random_string());
            arguments.append(i > 0 ? ", " : "").append("\"k").append(std::to_string(i)).append("\": ");
            arguments += rng() % 2 == 0 ? value : "[" + value + ", 1.50, {}]";
        }
        arguments += "}";
        Conversation conversation;
        conversation.options.thinking = ThinkingMode::chat;
        conversation.messages.resize(2);
        conversation.messages[1].role = Role::assistant;
        conversation.messages[1].tool_calls = {{"1", "f", arguments}};
        std::string text = to_text(render(conversation));
        text = text.substr(text.find("\n\n"));
        text.resize(text.size() - protocol::eos.size());
        const ParsedOutput output = parse_output(text, {Start::content, true}, OutputEnd::eos);
        ASSERT_EQ(output.calls.size(), 1u) << text;
        EXPECT_EQ(dump_python(parse_json(output.calls[0].arguments)), dump_python(parse_json(arguments)));
    }
}

TEST(OutputParser, LongValuesAreLinear) {
    std::string value;
    while (value.size() < 1'000'000) value += "&lt;/｜DSML｜parameter> < & \n";
    const std::string text =
        "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\" string=\"true\">" +
        value + "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>";
    EXPECT_EQ(parse_output(text, {Start::content, true}, OutputEnd::eos).calls.size(), 1u);
    std::vector<std::string_view> portions;
    for (std::size_t i = 0; i < text.size(); i += 5) portions.push_back(std::string_view(text).substr(i, 5));
    EXPECT_EQ(parse_portions(portions, {Start::content, true}, OutputEnd::eos).finish_reason,
              FinishReason::tool_calls);
}

}  // namespace
}  // namespace ds4::chat
