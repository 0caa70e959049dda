#pragma once

#include <cstdint>
#include <string>

namespace ds4::server {

struct ServedModel {
    std::int64_t context = 0;  // tokens
    std::int64_t created = 0;  // unix seconds
};

// JSON of GET /v1/models (api.md 2). For Anthropic's clients it has their members, too.
std::string model_list(const ServedModel& model, bool is_anthropic);
// JSON of GET /v1/models/{id}; aliases are known. Throws ApiError.
std::string model_object(const ServedModel& model, const std::string& id, bool is_anthropic);

}  // namespace ds4::server
