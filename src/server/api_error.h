#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ds4/error.h"

// What a client is told when a request fails (api.md 3).
namespace ds4::server {

// Which shape errors have. Chat completions, completions and Responses share one.
enum class Dialect : std::uint8_t { openai, anthropic };

enum class ErrorKind : std::uint8_t {
    invalid_request,   // 400
    context_overflow,  // 400, in the words by which agents know that they must shorten their history
    unauthorized,      // 401
    forbidden,         // 403
    unknown_path,      // 404; the message is METHOD PATH
    unknown_model,     // 404; the message is the name
    wrong_method,      // 405
    body_too_large,    // 413
    header_too_large,  // 431
    queue_full,        // 429
    internal,          // 500
    unavailable,       // 503: loading, shutting down, or the GPU failed
};

struct ApiError : Error {
    ApiError(ErrorKind what_kind, const std::string& message) : Error(message), kind(what_kind) {}

    ErrorKind kind;
    std::string param;                 // the field at fault; empty: none
    std::string code;                  // OpenAI's code where it is not given by the kind
    std::int64_t n_prompt_tokens = 0;  // of context_overflow
    std::int64_t n_context = 0;        // of context_overflow
};

// "messages[0].role: must be a string", with param = field.
ApiError invalid_field(const std::string& field, const std::string& what);
// A feature of the API that ds4 does not have: code unsupported_value.
ApiError unsupported_field(const std::string& field, const std::string& what);
// Each dialect's clients recognise its own wording, so the message is made in error_body().
ApiError context_overflow(const std::string& param, std::int64_t n_prompt_tokens, std::int64_t n_context);

int http_status(ErrorKind kind);
// Seconds after which to try again; empty: that would not help.
std::string retry_after(ErrorKind kind);

// The JSON body of an error response.
std::string error_body(const ApiError& error, Dialect dialect, const std::string& request_id);

// What the dialect's clients read as the message.
std::string error_message(const ApiError& error, Dialect dialect);
// "invalid_request_error", "overloaded_error", ...
std::string error_type(const ApiError& error, Dialect dialect);
// OpenAI's `code`; empty: null.
std::string error_code(const ApiError& error);

}  // namespace ds4::server
