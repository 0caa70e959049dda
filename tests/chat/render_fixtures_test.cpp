// What the vendor's encoder writes, byte for byte (prompt.md 7, points 1, 2 and 6).

#include <gtest/gtest.h>

#include <algorithm>

#include "chat/render.h"
#include "chat/test_files.h"
#include "tokenizer/golden_vocabulary.h"

namespace ds4::chat {
namespace {

using Ordered = nlohmann::ordered_json;

Prompt render_vendor_exact(Ordered messages, Ordered options, const Ordered& tools = nullptr) {
    options["vendor_exact"] = true;
    Ordered request = {{"messages", std::move(messages)}, {"options", std::move(options)}};
    if (!tools.is_null()) request["tools"] = tools;
    return render(parse_request(request.dump()));
}

TEST(RenderFixtures, VendorFixtures) {
    for (const int n : {1, 2, 3, 4}) {
        const auto input = test::read_json("encoding/test_input_" + std::to_string(n) + ".json");
        const auto expected = test::read_file("encoding/test_output_" + std::to_string(n) + ".txt");
        const Ordered options = {{"thinking_mode", n == 4 ? "chat" : "thinking"}};
        if (input.is_object()) {
            EXPECT_EQ(to_text(render_vendor_exact(input["messages"], options, input["tools"])), expected)
                << n;
            Ordered messages = input["messages"];
            messages[0]["tools"] = input["tools"];
            EXPECT_EQ(to_text(render_vendor_exact(messages, options)), expected) << n;
        } else {
            EXPECT_EQ(to_text(render_vendor_exact(input, options)), expected) << n;
        }
    }
}

TEST(RenderFixtures, ExtraCasesInVendorExactBehaviour) {
    const auto cases = test::read_json("encoding/extra_render_cases.json");
    EXPECT_EQ(cases.size(), 36u);
    for (const auto& fixture : cases) {
        EXPECT_EQ(to_text(render_vendor_exact(fixture["messages"], fixture["options"])), fixture["expected"])
            << fixture["name"];
    }
}

TEST(RenderFixtures, ExtraCasesInRecommendedBehaviour) {
    // The recommended behaviour differs only where it repairs something on purpose.
    const std::vector<std::string> repaired = {"system_after_user_mid_conversation",
                                               "assistant_twice_in_a_row",
                                               "tool_history_without_tools_field_drops_reasoning",
                                               "latest_reminder_after_user",
                                               "developer_plain",
                                               "developer_before_last_user_dropped"};
    for (const auto& fixture : test::read_json("encoding/extra_render_cases.json")) {
        const auto name = fixture["name"].get<std::string>();
        const Ordered request = {{"messages", fixture["messages"]}, {"options", fixture["options"]}};
        const std::string text = to_text(render(parse_request(request.dump())));
        const bool is_repaired = std::find(repaired.begin(), repaired.end(), name) != repaired.end();
        EXPECT_EQ(text != fixture["expected"], is_repaired) << name << "\n" << text;
    }
}

TEST(RenderFixtures, CutEverywhereGivesTheSameTokens) {
    // No fixture holds a control string in client text, so both ways of tokenizing agree.
    const tokenizer::Tokenizer tokenizer(test::golden_v4_vocabulary());
    for (const auto& fixture : test::read_json("encoding/extra_render_cases.json")) {
        const Prompt prompt = render_vendor_exact(fixture["messages"], fixture["options"]);
        EXPECT_EQ(to_tokens(prompt, tokenizer), tokenizer.encode_with_added(to_text(prompt)))
            << fixture["name"];
    }
}

TEST(RenderFixtures, PromptsHaveTheTokenCountsOfTheOfficialApi) {
    const tokenizer::Tokenizer tokenizer(test::golden_v4_vocabulary());
    const std::pair<const char*, std::size_t> cases[] = {{"short_italian_fact", 21},
                                                         {"short_code_completion", 27},
                                                         {"short_reasoning_plain", 18},
                                                         {"long_memory_archive", 3353},
                                                         {"long_code_audit", 3844}};
    for (const auto& [name, n_tokens] : cases) {
        Conversation conversation;
        conversation.options.thinking = ThinkingMode::chat;
        conversation.messages.emplace_back().content =
            test::read_file("official-vectors/prompts/" + std::string(name) + ".txt");
        EXPECT_EQ(to_tokens(render(conversation), tokenizer).size(), n_tokens) << name;
    }
}

}  // namespace
}  // namespace ds4::chat
