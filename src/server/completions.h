#pragma once

#include "chat/json_style.h"
#include "server/generation.h"

namespace ds4::server {

// The body of POST /v1/completions and who writes the answer (api.md 6.3). Token ids are not compared with a
// vocabulary here. Throws ApiError.
Exchange parse_completions(const chat::Json& body);

}  // namespace ds4::server
