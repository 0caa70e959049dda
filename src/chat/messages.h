#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/json_style.h"
#include "ds4/error.h"

// A conversation as clients send it, before anything of the prompt format touches it (prompt.md 2).
namespace ds4::chat {

enum class Role : std::uint8_t { system, developer, user, assistant, tool, latest_reminder };

// Quick instructions (prompt.md 2.8).
enum class Task : std::uint8_t { action, query, authority, domain, title, read_url };

enum class ThinkingMode : std::uint8_t { chat, thinking };
enum class Effort : std::uint8_t { low, high, max };
// Which weights the effort levels are meant for (prompt.md 2.7).
enum class EffortScheme : std::uint8_t { release_2026_04, release_0731 };

// recommended: the vendor's format with the repairs of prompt.md marked REC. vendor_exact: byte for byte what
// the vendor's encoder does, quirks included; its fixtures need it.
enum class Behaviour : std::uint8_t { recommended, vendor_exact };

struct ToolCall {
    std::string id;
    std::string name;
    std::string arguments;  // JSON text, or whatever the client had; empty: no arguments
};

struct Message {
    Role role = Role::user;
    std::string content;                   // parts of a list are joined by the parser
    std::optional<std::string> reasoning;  // of an assistant
    std::vector<ToolCall> tool_calls;      // of an assistant
    std::string tool_call_id;              // of a tool result; empty: unknown
    std::optional<Task> task;
    bool is_prefix = false;          // of an assistant: to be continued, so no EOS after it
    std::vector<std::string> tools;  // schemas, as in Conversation
    std::optional<std::string> response_schema;
};

struct RenderOptions {
    ThinkingMode thinking = ThinkingMode::thinking;
    Effort effort = Effort::high;
    EffortScheme effort_scheme = EffortScheme::release_2026_04;
    Behaviour behaviour = Behaviour::recommended;
    bool drop_thinking = true;  // leave out the reasoning of finished turns when no tools are around
    bool tools_first = false;   // tools before the system text; recommended behaviour only
};

struct Conversation {
    std::vector<Message> messages;
    std::vector<std::string> tools;              // JSON of each function object in the style of dump_python
    std::optional<std::string> response_schema;  // JSON schema of the answer, same style
    RenderOptions options;
};

// A field of a request is not what it should be.
struct FieldError : PromptError {
    FieldError(const std::string& where, const std::string& what_is_wrong)
        : PromptError(where + " " + what_is_wrong), field(where), problem(what_is_wrong) {}

    std::string field;    // "messages[0].role"
    std::string problem;  // "must be a string"
};

// Reads an OpenAI chat request:
//   messages, tools, tool_choice ("none" hides the tools), response_format, thinking {type}, think,
//   enable_thinking, reasoning_effort, continue_final_message
// and, for tests and tools, an object `options` with thinking_mode, reasoning_effort, drop_thinking,
// effort_scheme ("2026-04", "0731"), tools_first and vendor_exact, and per message task, wo_eos, tools and
// response_format. A bare list is a list of messages. Other keys are ignored.
// Tools of other types than function are left out. Throws FieldError.
Conversation parse_request(const Json& request);

// The same from text.
Conversation parse_request(std::string_view json);

}  // namespace ds4::chat
