#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

// Log lines for people and for grep: a time, a level, what happened, and key=value pairs. Thread-safe.
namespace ds4::server::log {

enum class Level : std::uint8_t { debug, info, warning, error, off };

struct Value {
    Value(std::string_view text);  // quoted if need be
    Value(const char* text) : Value(std::string_view(text)) {}
    Value(const std::string& text) : Value(std::string_view(text)) {}
    Value(std::int64_t number) : text_(std::to_string(number)) {}
    Value(std::size_t number) : text_(std::to_string(number)) {}
    Value(int number) : text_(std::to_string(number)) {}
    Value(bool truth) : text_(truth ? "true" : "false") {}
    Value(double number);  // three digits behind the point

    const std::string& text() const { return text_; }

  private:
    std::string text_;
};

using Fields = std::initializer_list<std::pair<std::string_view, Value>>;

// To standard error. The default level is info.
void set_level(Level level);

void debug(std::string_view what, Fields fields = {});
void info(std::string_view what, Fields fields = {});
void warning(std::string_view what, Fields fields = {});
void error(std::string_view what, Fields fields = {});

}  // namespace ds4::server::log
