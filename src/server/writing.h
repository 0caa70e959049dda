#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "chat/json_style.h"
#include "server/generation.h"

// Pieces of JSON for the response writers, which run for every token: constant parts are made once and text
// is escaped straight into place.
namespace ds4::server {

// The pieces one after the other. Made in that order, too, which operands of + need not be.
std::string join(std::initializer_list<std::string> pieces);

// A JSON string literal. Bytes that are not UTF-8 become U+FFFD.
std::string json_text(std::string_view text);
// A JSON number; null for NaN.
std::string json_number(float value);

// Usage as chat completions and completions have it (api.md 6.1).
std::string usage_json(const Usage& usage);

}  // namespace ds4::server
