#include "server/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

namespace ds4::server::log {
namespace {

spdlog::logger& logger() {
    static const std::shared_ptr<spdlog::logger> instance = [] {
        auto made =
            std::make_shared<spdlog::logger>("ds4", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
        made->flush_on(spdlog::level::info);
        return made;
    }();
    return *instance;
}

void write(spdlog::level::level_enum level, std::string_view what, Fields fields) {
    if (!logger().should_log(level)) return;
    std::string line(what);
    for (const auto& [key, value] : fields) line.append(" ").append(key).append("=").append(value.text());
    logger().log(level, spdlog::string_view_t(line.data(), line.size()));
}

// A log line is one line whatever a client sends.
void append_escaped(std::string& out, char c) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
        out.append({'\\', c});
    } else if (code < 0x20 || code == 0x7F) {
        out.append("\\x").append({digits[code >> 4], digits[code & 15]});
    } else {
        out += c;
    }
}

}  // namespace

Value::Value(std::string_view text) {
    const bool is_plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) > 0x20 && c != '"' && c != '=' && c != '\\' && c != 0x7F;
    });
    if (is_plain) {
        text_ = text;
        return;
    }
    text_ = "\"";
    for (const char c : text) append_escaped(text_, c);
    text_ += '"';
}

Value::Value(double number) {
    std::array<char, 400> digits{};
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), number, std::chars_format::fixed, 3).ptr;
    text_.assign(digits.data(), end);
}

void set_level(Level level) {
    constexpr std::array levels = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                   spdlog::level::err, spdlog::level::off};
    logger().set_level(levels[static_cast<std::size_t>(level)]);
}

void debug(std::string_view what, Fields fields) {
    write(spdlog::level::debug, what, fields);
}
void info(std::string_view what, Fields fields) {
    write(spdlog::level::info, what, fields);
}
void warning(std::string_view what, Fields fields) {
    write(spdlog::level::warn, what, fields);
}
void error(std::string_view what, Fields fields) {
    write(spdlog::level::err, what, fields);
}

}  // namespace ds4::server::log
