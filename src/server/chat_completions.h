#pragma once

#include <memory>

#include "chat/json_style.h"
#include "server/generation.h"

namespace ds4::server {

// The body of POST /v1/chat/completions (api.md 4.1) and who writes the answer (api.md 6.2). Throws ApiError.
Exchange parse_chat_completions(const chat::Json& body);

// What an answer repeats of its request.
struct ChatEcho {
    std::string model;
    bool include_usage = false;  // in a stream
    bool has_logprobs = false;
};
std::unique_ptr<ResponseWriter> make_chat_writer(ChatEcho echo);

}  // namespace ds4::server
