#include "server/models.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "server/api_error.h"

namespace ds4::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kId = "deepseek-v4-flash", kName = "DeepSeek V4 Flash";
constexpr std::array<std::string_view, 3> kIds = {kId, "deepseek-chat", "deepseek-reasoner"};
constexpr std::int64_t kMostCompletion = 393216;  // what the vendor's API allows

std::string rfc3339(std::int64_t unix_seconds) {
    const std::time_t time = unix_seconds;
    std::tm utc{};
    ::gmtime_r(&time, &utc);
    std::array<char, 32> text{};
    const std::size_t n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return {text.data(), n};
}

Json to_json(const ServedModel& model, std::string_view id, bool is_anthropic) {
    Json json = {{"id", id},
                 {"object", "model"},
                 {"created", model.created},
                 {"owned_by", "ds4"},
                 {"name", kName},
                 {"context_length", model.context},
                 {"top_provider",
                  {{"context_length", model.context},
                   {"max_completion_tokens", std::min(kMostCompletion, model.context)},
                   {"is_moderated", false}}},
                 {"supported_parameters",
                  {"tools", "tool_choice", "parallel_tool_calls", "max_tokens", "temperature", "top_p",
                   "top_k", "min_p", "seed", "stop", "logprobs", "top_logprobs", "n", "response_format",
                   "reasoning_effort", "thinking"}}};
    if (is_anthropic) {
        json["type"] = "model";
        json["display_name"] = kName;
        json["created_at"] = rfc3339(model.created);
    }
    return json;
}

}  // namespace

std::string model_list(const ServedModel& model, bool is_anthropic) {
    Json list = {{"object", "list"}, {"data", Json::array({to_json(model, kId, is_anthropic)})}};
    if (is_anthropic) {
        list["has_more"] = false;
        list["first_id"] = kId;
        list["last_id"] = kId;
    }
    return list.dump();
}

std::string model_object(const ServedModel& model, const std::string& id, bool is_anthropic) {
    if (std::find(kIds.begin(), kIds.end(), id) == kIds.end()) {
        ApiError error(ErrorKind::unknown_model, id);
        error.param = "model";
        throw error;
    }
    return to_json(model, id, is_anthropic).dump();
}

}  // namespace ds4::server
