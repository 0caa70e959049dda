#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace ds4::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
    // A message may quote whatever a client sent.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json string_or_null(const std::string& text) {
    return text.empty() ? Json() : Json(text);
}

// "ERROR (HTTP status), OpenAI type, OpenAI code, Anthropic type", a row per kind in its order.
struct Row {
    int status;
    const char* openai_type;
    const char* openai_code;
    const char* anthropic_type;
};

Row row_of(ErrorKind kind) {
    constexpr const char* invalid = "invalid_request_error";
    switch (kind) {
        case ErrorKind::invalid_request:
            return {400, invalid, "", invalid};
        case ErrorKind::context_overflow:
            return {400, invalid, "context_length_exceeded", invalid};
        case ErrorKind::unauthorized:
            return {401, "authentication_error", "invalid_api_key", "authentication_error"};
        case ErrorKind::forbidden:
            return {403, "permission_error", "", "permission_error"};
        case ErrorKind::unknown_path:
            return {404, invalid, "unknown_url", "not_found_error"};
        case ErrorKind::unknown_model:
            return {404, invalid, "model_not_found", "not_found_error"};
        case ErrorKind::wrong_method:
            return {405, invalid, "", invalid};
        case ErrorKind::body_too_large:
            return {413, invalid, "request_too_large", "request_too_large"};
        case ErrorKind::header_too_large:
            return {431, invalid, "", invalid};
        case ErrorKind::queue_full:
            return {429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"};
        case ErrorKind::internal:
            return {500, "server_error", "server_error", "api_error"};
        case ErrorKind::unavailable:
            return {503, "server_error", "overloaded", "overloaded_error"};
    }
    return {500, "server_error", "server_error", "api_error"};
}

std::string overflow_message(const ApiError& error, Dialect dialect) {
    const std::string n = std::to_string(error.n_prompt_tokens), most = std::to_string(error.n_context);
    if (dialect == Dialect::anthropic) return "prompt is too long: " + n + " tokens > " + most + " maximum";
    return "This model's maximum context length is " + most + " tokens, but the prompt has " + n +
           " tokens (context_length_exceeded)";
}

}  // namespace

ApiError invalid_field(const std::string& field, const std::string& what) {
    ApiError error(ErrorKind::invalid_request, field + ": " + what);
    error.param = field;
    return error;
}

ApiError unsupported_field(const std::string& field, const std::string& what) {
    ApiError error = invalid_field(field, what);
    error.code = "unsupported_value";
    return error;
}

ApiError context_overflow(const std::string& param, std::int64_t n_prompt_tokens, std::int64_t n_context) {
    ApiError error(ErrorKind::context_overflow, "the prompt has " + std::to_string(n_prompt_tokens) +
                                                    " tokens, the context holds " +
                                                    std::to_string(n_context));
    error.param = param;
    error.n_prompt_tokens = n_prompt_tokens;
    error.n_context = n_context;
    return error;
}

int http_status(ErrorKind kind) {
    return row_of(kind).status;
}

std::string retry_after(ErrorKind kind) {
    return kind == ErrorKind::queue_full ? "5" : kind == ErrorKind::unavailable ? "2" : "";
}

std::string error_type(const ApiError& error, Dialect dialect) {
    const Row row = row_of(error.kind);
    return dialect == Dialect::anthropic ? row.anthropic_type : row.openai_type;
}

std::string error_code(const ApiError& error) {
    return error.code.empty() ? row_of(error.kind).openai_code : error.code;
}

std::string error_message(const ApiError& error, Dialect dialect) {
    const bool is_anthropic = dialect == Dialect::anthropic;
    const std::string what = error.what();
    switch (error.kind) {
        case ErrorKind::context_overflow:
            return overflow_message(error, dialect);
        case ErrorKind::unauthorized:
            return is_anthropic ? "invalid x-api-key" : what;
        case ErrorKind::unknown_path:
            return (is_anthropic ? "Not found: " : "Unknown request URL: ") + what;
        case ErrorKind::unknown_model:
            return is_anthropic ? "model: " + what : "The model '" + what + "' does not exist";
        default:
            return what;
    }
}

std::string error_body(const ApiError& error, Dialect dialect, const std::string& request_id) {
    const std::string type = error_type(error, dialect), message = error_message(error, dialect);
    if (dialect == Dialect::anthropic) {
        return dump({{"type", "error"},
                     {"error", {{"type", type}, {"message", message}}},
                     {"request_id", request_id}});
    }
    Json inner = {{"message", message},
                  {"type", type},
                  {"param", string_or_null(error.param)},
                  {"code", string_or_null(error_code(error))}};
    if (error.kind == ErrorKind::context_overflow) {
        inner["n_prompt_tokens"] = error.n_prompt_tokens;
        inner["n_ctx"] = error.n_context;
    }
    return dump({{"error", inner}});
}

}  // namespace ds4::server
