#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chat/messages.h"
#include "ds4/sampling.h"
#include "server/fields.h"
#include "server/generation.h"

// What several dialects say in the same way. All throw ApiError naming the field.
namespace ds4::server {

inline constexpr std::size_t kMaxStops = 16;
inline constexpr std::size_t kMaxStopBytes = 1024;
inline constexpr int kMaxChoices = 8;
inline constexpr int kMaxTopLogprobs = 20;

// Runs what reads fields itself; its FieldError becomes an ApiError.
template <class Read>
auto naming_fields(const Read& read) {
    try {
        return read();
    } catch (const chat::FieldError& error) {
        throw invalid_field(error.field, error.problem);
    }
}

// A string or a list of at most kMaxStops; empty strings are dropped.
std::vector<std::string> read_stops(const Field& field);
// At least 1; absent: 0, no limit.
std::int64_t read_max_tokens(const Field& field);
// temperature, top_p, top_k, min_p and seed, moved into their ranges (prompt.md 3).
void read_sampling(const Field& body, GenerationRequest& request);
// 1..kMaxChoices.
int read_choices(const Field& field);

// Who thinks, and how hard: first match of prompt.md 4.
struct ThinkingWish {
    std::optional<bool> is_on;  // said in so many words
    std::string effort;         // a name of api.md 5; empty: not said
    std::string model;          // an alias may decide
};
void apply_thinking(const ThinkingWish& wish, chat::RenderOptions& options);
// {type: enabled | disabled | adaptive}; absent: nothing.
std::optional<bool> read_thinking_type(const Field& thinking);
// Tokens of reasoning; absent: nothing.
std::optional<std::int64_t> read_budget(const Field& field);

// The JSON schema that the answer must follow; nothing for text. `schema`: where the dialect has it in a
// format of type json_schema.
std::optional<std::string> read_response_format(const Field& format, const Field& schema);

// `tool_choice` as OpenAI's dialects have it, once the tools are known.
void read_openai_tool_choice(const Field& choice, const Field& name, GenerationRequest& request);
// Throws unless the choice can be met.
void check_tool_choice(const Field& choice, const std::vector<std::string>& names,
                       const GenerationRequest& request);
// Names in function objects as Conversation::tools has them.
std::vector<std::string> tool_names(const std::vector<std::string>& schemas);

}  // namespace ds4::server
