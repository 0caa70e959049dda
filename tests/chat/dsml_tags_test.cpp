#include "chat/dsml_tags.h"

#include <gtest/gtest.h>

namespace ds4::chat {
namespace {

TEST(DsmlTags, StartMarkers) {
    const std::pair<std::string, std::string> full[] = {
        {"<｜DSML｜tool_calls>x", "<｜DSML｜tool_calls>"},
        {"<DSML｜tool_calls>x", "<DSML｜tool_calls>"},
        {"<tool_calls>\n <invoke", "<tool_calls>"},
    };
    for (const auto& [text, literal] : full) {
        const StartMarker marker = match_start_marker(text);
        EXPECT_EQ(marker.match, Match::full) << text;
        EXPECT_EQ(marker.length, literal.size()) << text;
        EXPECT_EQ(marker.spelling.open("tool_calls>"), literal);
        for (std::size_t n = 1; n < literal.size(); ++n) {
            EXPECT_EQ(match_start_marker(text.substr(0, n)).match, Match::partial) << text.substr(0, n);
        }
    }
    EXPECT_EQ(match_start_marker("<tool_calls>").match, Match::partial);
    EXPECT_EQ(match_start_marker("<tool_calls> \n<inv").match, Match::partial);
    for (const char* text :
         {"<tool_calls>x", "<tool_calls> <b", "<tool_call>", "<b", "<｜DSML｜function_calls>", "x"}) {
        EXPECT_EQ(match_start_marker(text).match, Match::no) << text;
    }
}

TEST(DsmlTags, OpenTags) {
    const std::string text = "<p  name=\"a > b\"\n string=\"true\" other=\"\" >rest";
    const OpenTag tag = match_open_tag(text, "<p");
    ASSERT_EQ(tag.match, Match::full);
    EXPECT_EQ(text.substr(tag.length), "rest");
    EXPECT_EQ(*tag.find("name"), "a > b");
    EXPECT_EQ(*tag.find("string"), "true");
    EXPECT_EQ(*tag.find("other"), "");
    EXPECT_EQ(tag.find("x"), nullptr);
    for (std::size_t n = 0; n < tag.length; ++n) {
        EXPECT_EQ(match_open_tag(text.substr(0, n), "<p").match, Match::partial) << n;
    }
    EXPECT_EQ(match_open_tag("<p>", "<p").match, Match::full);
    for (const char* bad :
         {"<px", "<p =\"x\">", "<p name=x>", "<p name>", "<p name=\"a\"b=\"c\">", "<p <", "q"}) {
        EXPECT_EQ(match_open_tag(bad, "<p").match, Match::no) << bad;
    }
}

}  // namespace
}  // namespace ds4::chat
