#include "chat/tool_memory.h"

#include <gtest/gtest.h>

#include <thread>

#include "chat/protocol.h"
#include "chat/render.h"

namespace ds4::chat {
namespace {

const std::string dsml(protocol::dsml);

// Not as the renderer would write it: a blank line and spaces that do not matter.
const std::string kBlock = "\n\n<" + dsml + "tool_calls>\n\n<" + dsml + "invoke name=\"run\">\n<" + dsml +
                           "parameter name=\"b\" string=\"false\">1.0</" + dsml + "parameter>\n <" + dsml +
                           "parameter name=\"a\" string=\"true\">x</" + dsml + "parameter>\n</" + dsml +
                           "invoke>\n</" + dsml + "tool_calls>";

using Ids = std::vector<std::string>;

std::string render_with(const ToolMemory& memory, const std::string& id, const std::string& arguments,
                        ReplayCounts& counts) {
    Conversation conversation;
    conversation.messages.resize(3);
    conversation.messages[0].content = "go";
    conversation.messages[1].role = Role::assistant;
    conversation.messages[1].reasoning = "r";
    conversation.messages[1].tool_calls = {{id, "run", arguments}};
    conversation.messages[2].role = Role::tool;
    conversation.messages[2].tool_call_id = id;
    return to_text(render(conversation, &memory, counts));
}

TEST(ToolMemory, FindsBlocksByAllTheirIds) {
    ToolMemory memory;
    memory.store(Ids{"a", "b"}, "block 1");
    memory.store(Ids{"c"}, "block 2");
    EXPECT_EQ(*memory.find(Ids{"a", "b"}), "block 1");
    EXPECT_EQ(*memory.find(Ids{"b"}), "block 1");
    EXPECT_EQ(memory.find(Ids{"a", "c"}), nullptr);
    EXPECT_EQ(memory.find(Ids{"a", "unknown"}), nullptr);
    EXPECT_EQ(memory.find(Ids{}), nullptr);
}

TEST(ToolMemory, ForgetsTheLeastRecentlyUsed) {
    ToolMemory memory(3);
    for (const std::string id : {"1", "2", "3"}) memory.store(Ids{id}, "block " + id);
    EXPECT_NE(memory.find(Ids{"1"}), nullptr);
    memory.store(Ids{"4"}, "block 4");
    EXPECT_EQ(memory.find(Ids{"2"}), nullptr);
    EXPECT_NE(memory.find(Ids{"1"}), nullptr);
    EXPECT_EQ(memory.n_ids(), 3u);
}

TEST(ToolMemory, CountsEveryBlockOnceAndKeepsItsBudget) {
    ToolMemory memory(1000, 100);
    memory.store(Ids{"1"}, std::string(40, 'x'));
    memory.store(Ids{"2"}, std::string(40, 'x'));
    EXPECT_EQ(memory.n_bytes(), 42u);
    memory.store(Ids{"3"}, std::string(80, 'y'));
    EXPECT_LE(memory.n_bytes(), 100u);
    EXPECT_NE(memory.find(Ids{"3"}), nullptr);
    EXPECT_EQ(memory.find(Ids{"1"}), nullptr);
    memory.store(Ids{"4"}, std::string(200, 'z'));
    EXPECT_EQ(memory.find(Ids{"4"}), nullptr);
    EXPECT_NE(memory.find(Ids{"3"}), nullptr);
    // Who holds a block keeps it, and the count stays right.
    const auto held = memory.find(Ids{"3"});
    for (int i = 0; i < 50; ++i)
        memory.store(Ids{std::to_string(100 + i)}, std::string(30, char('a' + i % 26)));
    EXPECT_EQ(*held, std::string(80, 'y'));
    EXPECT_LE(memory.n_bytes(), 100u);
}

TEST(ToolMemory, WritesCallsAsTheyWereSampled) {
    ToolMemory memory;
    memory.store(Ids{"call_1"}, kBlock);
    ReplayCounts counts;
    // Other order of keys, other spelling of the number.
    const std::string text = render_with(memory, "call_1", R"({"a":"x","b":1})", counts);
    EXPECT_NE(text.find(kBlock), std::string::npos);
    EXPECT_EQ(counts.exact, 1u);
    EXPECT_EQ(counts.edited + counts.missing, 0u);
}

TEST(ToolMemory, WritesEditedAndUnknownCallsAnew) {
    ToolMemory memory;
    memory.store(Ids{"call_1"}, kBlock);
    ReplayCounts counts;
    EXPECT_EQ(render_with(memory, "call_1", R"({"a":"y","b":1})", counts).find(kBlock), std::string::npos);
    EXPECT_EQ(counts.edited, 1u);
    EXPECT_EQ(render_with(memory, "call_2", R"({"a":"x","b":1})", counts).find(kBlock), std::string::npos);
    EXPECT_EQ(counts.missing, 1u);
}

TEST(ToolMemory, ControlTokensOfABlockAreControlTokens) {
    ToolMemory memory;
    memory.store(Ids{"call_1"}, kBlock);
    ReplayCounts counts;
    Conversation conversation;
    conversation.messages.resize(2);
    conversation.messages[1].role = Role::assistant;
    conversation.messages[1].tool_calls = {{"call_1", "run", R"({"a":"x","b":1})"}};
    std::size_t n_dsml = 0;
    for (const Segment& segment : render(conversation, &memory, counts).segments) {
        n_dsml += segment.is_special && segment.text == dsml ? 1 : 0;
        EXPECT_TRUE(segment.is_special || segment.text.find(dsml) == std::string::npos);
    }
    EXPECT_EQ(n_dsml, 8u);
}

TEST(ToolMemory, ManyThreads) {
    ToolMemory memory(50);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 500; ++i) {
                const std::string id = std::to_string(t) + "/" + std::to_string(i);
                memory.store(Ids{id}, "block " + std::to_string(i % 20));
                const auto found = memory.find(Ids{id});
                EXPECT_TRUE(found == nullptr || *found == "block " + std::to_string(i % 20));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(memory.n_ids(), 50u);
}

}  // namespace
}  // namespace ds4::chat
