#include "chat/protocol.h"

#include <gtest/gtest.h>

#include "chat/test_files.h"

namespace ds4::chat {
namespace {

TEST(Protocol, EqualsThePublishedStrings) {
    const auto strings = test::read_json("encoding/protocol_strings.json");
    const auto& special = strings["special_tokens"];
    EXPECT_EQ(special["bos"], protocol::bos);
    EXPECT_EQ(special["eos"], protocol::eos);
    EXPECT_EQ(special["user"], protocol::user);
    EXPECT_EQ(special["assistant"], protocol::assistant);
    EXPECT_EQ(special["latest_reminder"], protocol::latest_reminder);
    EXPECT_EQ(special["think_start"], protocol::think);
    EXPECT_EQ(special["think_end"], protocol::end_think);
    EXPECT_EQ(special["dsml"], protocol::dsml);
    const auto& tasks = special["tasks"];
    EXPECT_EQ(tasks.size(), 6u);
    EXPECT_EQ(tasks["action"], protocol::task_action);
    EXPECT_EQ(tasks["query"], protocol::task_query);
    EXPECT_EQ(tasks["authority"], protocol::task_authority);
    EXPECT_EQ(tasks["domain"], protocol::task_domain);
    EXPECT_EQ(tasks["title"], protocol::task_title);
    EXPECT_EQ(tasks["read_url"], protocol::task_read_url);
    EXPECT_EQ(strings["tools_block"],
              std::string(protocol::tools_head) + "@@TOOL_SCHEMAS@@" + std::string(protocol::tools_tail));
    EXPECT_EQ(strings["response_format_block"], std::string(protocol::response_format_head) + "@@SCHEMA@@");
    const auto& effort = strings["reasoning_effort_prefix"];
    EXPECT_EQ(effort["release_2026_04"]["max"], protocol::effort_exhaustive);
    EXPECT_EQ(effort["release_0731"]["high"], protocol::effort_exhaustive);
    EXPECT_EQ(effort["release_0731"]["max"], protocol::effort_beyond);
}

}  // namespace
}  // namespace ds4::chat
