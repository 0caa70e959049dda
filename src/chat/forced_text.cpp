#include "chat/forced_text.h"

#include <string>

#include "chat/protocol.h"

namespace ds4::chat {
namespace {

void special(std::vector<Segment>& out, std::string_view token) {
    out.push_back({true, std::string(token)});
}

void plain(std::vector<Segment>& out, std::string_view text) {
    out.push_back({false, std::string(text)});
}

}  // namespace

std::vector<Segment> end_of_thinking() {
    std::vector<Segment> out;
    special(out, protocol::end_think);
    return out;
}

std::vector<Segment> opening_of_call(std::string_view name) {
    std::vector<Segment> out;
    plain(out, "\n\n<");
    special(out, protocol::dsml);
    plain(out, "tool_calls>\n<");
    special(out, protocol::dsml);
    plain(out, "invoke name=\"" + std::string(name) + (name.empty() ? "" : "\">\n"));
    return out;
}

std::vector<Segment> closing_of_block() {
    std::vector<Segment> out;
    plain(out, "\n</");
    special(out, protocol::dsml);
    plain(out, "tool_calls>");
    return out;
}

std::vector<Segment> retry_after_broken_block(ThinkingMode mode) {
    std::vector<Segment> out;
    special(out, protocol::eos);
    special(out, protocol::user);
    plain(out,
          std::string(protocol::tool_result) +
              "Error: the tool call could not be read, and nothing was run. Write it again as one block: "
              "a tool_calls tag holding an invoke tag with a name for every call, which holds one parameter "
              "tag "
              "with a name and string=\"true\" or \"false\" per argument, and close every tag." +
              std::string(protocol::end_tool_result));
    special(out, protocol::assistant);
    special(out, mode == ThinkingMode::thinking ? protocol::think : protocol::end_think);
    return out;
}

}  // namespace ds4::chat
