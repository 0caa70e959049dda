#include "server/fields.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace ds4::server {

using chat::Json;

Field Field::body(const Json& json) {
    if (!json.is(Json::Kind::object)) {
        throw ApiError(ErrorKind::invalid_request, "The request body must be a JSON object");
    }
    return {&json, ""};
}

Field Field::operator[](std::string_view key) const {
    const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    return {json_ == nullptr ? nullptr : json_->find(key), path};
}

std::vector<Field> Field::items() const {
    std::vector<Field> fields;
    if (json_ == nullptr) return fields;
    if (!is_array()) fail("must be a list");
    fields.reserve(json_->items.size());
    for (std::size_t i = 0; i < json_->items.size(); ++i) {
        const Json& item = json_->items[i];
        fields.push_back(
            {item.is(Json::Kind::null) ? nullptr : &item, path_ + "[" + std::to_string(i) + "]"});
    }
    return fields;
}

const Field& Field::object() const {
    if (!is_object()) fail("must be an object");
    return *this;
}

const std::string& Field::string() const {
    if (!is_string()) fail("must be a string");
    return json_->text;
}

bool Field::boolean() const {
    if (json_ == nullptr || !json_->is(Json::Kind::boolean)) fail("must be true or false");
    return json_->truth;
}

double Field::number() const {
    const bool is_number =
        json_ != nullptr && (json_->is(Json::Kind::integer) || json_->is(Json::Kind::real));
    if (!is_number) fail("must be a number");
    double value = 0;
    const std::string& text = json_->text;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::int64_t Field::integer() const {
    const double value = number();
    if (value != std::floor(value)) fail("must be an integer");
    std::int64_t exact = 0;
    const std::string& text = json_->text;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
    if (error == std::errc() && end == text.data() + text.size()) return exact;
    constexpr double limit = 9223372036854775808.0;
    if (value >= limit) return std::numeric_limits<std::int64_t>::max();
    if (value < -limit) return std::numeric_limits<std::int64_t>::min();
    return static_cast<std::int64_t>(value);
}

std::string Field::string_or(const std::string& fallback) const {
    return present() ? string() : fallback;
}

bool Field::boolean_or(bool fallback) const {
    return present() ? boolean() : fallback;
}

void Field::fail(const std::string& what) const {
    throw invalid_field(path_, what);
}

void Field::unsupported(const std::string& what) const {
    throw unsupported_field(path_, what);
}

Json parse_body(std::string_view body) {
    try {
        return chat::parse_json(body);
    } catch (const PromptError& error) {
        throw ApiError(ErrorKind::invalid_request, std::string("Request body: ") + error.what());
    }
}

}  // namespace ds4::server
