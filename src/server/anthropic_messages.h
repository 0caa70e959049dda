#pragma once

#include "chat/json_style.h"
#include "server/generation.h"

namespace ds4::server {

// The body of POST /v1/messages (api.md 4.2) and who writes the answer (api.md 6.4). Throws ApiError.
Exchange parse_anthropic_messages(const chat::Json& body);

// The body of POST /v1/messages/count_tokens: the same without an answer. Throws ApiError.
GenerationRequest parse_count_tokens(const chat::Json& body);

std::unique_ptr<ResponseWriter> make_anthropic_writer(std::string model);

}  // namespace ds4::server
