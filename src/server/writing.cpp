#include "server/writing.h"

#include <cmath>

#include "tokenizer/utf8.h"

namespace ds4::server {

std::string join(std::initializer_list<std::string> pieces) {
    std::string out;
    for (const std::string& piece : pieces) out += piece;
    return out;
}

std::string json_text(std::string_view text) {
    if (tokenizer::utf8_valid_prefix(text) == text.size()) return chat::quote_python(text);
    tokenizer::Utf8Stream stream;
    std::string repaired = stream.push(text);
    repaired += stream.finish();
    return chat::quote_python(repaired);
}

std::string json_number(float value) {
    if (std::isnan(value)) return "null";
    // JSON has no infinity; an impossible token is as good as this unlikely.
    constexpr double lowest = -9999;
    return chat::python_float(std::max(lowest, static_cast<double>(value)));
}

std::string usage_json(const Usage& u) {
    const auto number = [](const char* name, std::int64_t value) {
        return "\"" + std::string(name) + "\":" + std::to_string(value);
    };
    return "{" + number("prompt_tokens", u.prompt) + "," + number("completion_tokens", u.completion) + "," +
           number("total_tokens", u.prompt + u.completion) + ",\"prompt_tokens_details\":{" +
           number("cached_tokens", u.cached) + "},\"completion_tokens_details\":{" +
           number("reasoning_tokens", u.reasoning) + "}," + number("prompt_cache_hit_tokens", u.cached) +
           "," + number("prompt_cache_miss_tokens", u.prompt - u.cached) + "}";
}

}  // namespace ds4::server
