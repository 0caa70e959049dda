#pragma once

#include <map>
#include <memory>
#include <string>

#include "chat/json_style.h"
#include "server/generation.h"

namespace ds4::server {

// The body of POST /v1/responses (api.md 4.3) and who writes the answer (api.md 6.5). Throws ApiError.
Exchange parse_responses(const chat::Json& body);

// A tool as its client knows it. The prompt has one flat list of names.
struct ResponsesTool {
    enum class Kind : std::uint8_t { function, custom, tool_search };

    Kind kind = Kind::function;
    std::string name;
    std::string name_space;  // empty: none

    bool operator==(const ResponsesTool&) const = default;
};

// What an answer repeats of its request, and needs of it.
struct ResponsesEcho {
    std::string model;
    std::string effort, summary;  // empty: not said
    bool has_encrypted_reasoning = false;
    bool parallel_tool_calls = true;
    std::map<std::string, ResponsesTool> tools;  // by the name in the prompt
};
std::unique_ptr<ResponseWriter> make_responses_writer(ResponsesEcho echo);

// Reasoning that a client hands back unread, exactly as it was.
std::string seal_reasoning(const std::string& text);
// Nothing if it is not ours.
std::optional<std::string> unseal_reasoning(const std::string& sealed);

}  // namespace ds4::server
