#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/messages.h"

// The steps between a client's messages and the turns that are written (prompt.md 2.1, 2.2).
namespace ds4::chat {

struct Turn {
    struct Part {
        std::string text;
        bool is_tool_result = false;
        std::string call_id;  // of a tool result; empty: unknown
    };

    Role role = Role::user;   // never tool: results are parts of user turns
    std::vector<Part> parts;  // one, or of a user turn one or more
    std::optional<std::string> reasoning;
    std::vector<ToolCall> tool_calls;
    std::optional<Task> task;
    bool is_prefix = false;
    std::vector<std::string> tools;
    std::optional<std::string> response_schema;
    // Of an assistant: its reasoning is written. Of a user or developer turn: the answer to it opens with
    // thinking.
    bool shows_thinking = false;
};

// Throws PromptError: no messages, an unfinished assistant message that has tool calls.
std::vector<Turn> preprocess(const Conversation& conversation);

}  // namespace ds4::chat
