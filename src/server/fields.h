#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/json_style.h"
#include "server/api_error.h"

namespace ds4::server {

// A value in a request's body together with its path, so that every complaint names the field. null counts as
// absent (api.md 1). The body must outlive it.
class Field {
  public:
    // The body itself. Throws ApiError unless it is an object.
    static Field body(const chat::Json& json);

    bool present() const { return json_ != nullptr; }
    explicit operator bool() const { return present(); }
    const chat::Json& json() const { return *json_; }
    const std::string& path() const { return path_; }

    bool is_string() const { return json_ != nullptr && json_->is(chat::Json::Kind::string); }
    bool is_array() const { return json_ != nullptr && json_->is(chat::Json::Kind::array); }
    bool is_object() const { return json_ != nullptr && json_->is(chat::Json::Kind::object); }

    // A member; absent if this is absent or not an object.
    Field operator[](std::string_view key) const;
    // All items; none if absent. Throws ApiError unless it is a list.
    std::vector<Field> items() const;

    // Throw ApiError naming the path if the value is absent or of another type.
    const Field& object() const;
    const std::string& string() const;
    bool boolean() const;
    std::int64_t integer() const;  // also 3.0; beyond int64 the nearest
    double number() const;         // finite

    // The same, or the fallback if absent.
    std::string string_or(const std::string& fallback) const;
    bool boolean_or(bool fallback) const;

    // Throws ApiError "PATH: WHAT".
    [[noreturn]] void fail(const std::string& what) const;
    [[noreturn]] void unsupported(const std::string& what) const;

  private:
    Field(const chat::Json* json, std::string path) : json_(json), path_(std::move(path)) {}

    const chat::Json* json_ = nullptr;
    std::string path_;
};

// Throws ApiError with the place of the mistake.
chat::Json parse_body(std::string_view body);

}  // namespace ds4::server
