#include "server/trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "server/ids.h"
#include "server/log.h"

namespace ds4::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMask = "***";
// Shorter ones are words ("sk-learn"), not keys.
constexpr std::size_t kKeyLength = 16;

bool is_key_character(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
}

std::string mask_one(std::string_view text, std::string_view secret) {
    std::string out;
    std::size_t at = 0;
    for (std::size_t hit; (hit = text.find(secret, at)) != std::string_view::npos; at = hit + secret.size()) {
        out.append(text.substr(at, hit - at)).append(kMask);
    }
    return out.append(text.substr(at));
}

std::string mask_keys(std::string_view text) {
    constexpr std::string_view prefix = "sk-";
    std::string out;
    std::size_t at = 0;
    for (std::size_t hit; (hit = text.find(prefix, at)) != std::string_view::npos;) {
        std::size_t end = hit + prefix.size();
        while (end < text.size() && is_key_character(text[end])) ++end;
        const bool is_inside_word = hit > 0 && is_key_character(text[hit - 1]);
        const bool is_key = !is_inside_word && end - hit - prefix.size() >= kKeyLength;
        out.append(text.substr(at, hit - at)).append(is_key ? kMask : text.substr(hit, end - hit));
        at = end;
    }
    return out.append(text.substr(at));
}

std::string_view name_of(Finish::Reason reason) {
    switch (reason) {
        case Finish::Reason::stop:
            return "stop";
        case Finish::Reason::stop_sequence:
            return "stop_sequence";
        case Finish::Reason::length:
            return "length";
        case Finish::Reason::tool_calls:
            return "tool_calls";
    }
    return "";
}

Json to_json(const TraceRecord::Answer& answer) {
    Json calls = Json::array();
    for (const Choice::Call& call : answer.parsed.calls) {
        calls.push_back({{"id", call.id}, {"name", call.name}, {"arguments", call.arguments}});
    }
    return {{"sampled", answer.sampled},
            {"reasoning", answer.parsed.reasoning},
            {"content", answer.parsed.content},
            {"calls", std::move(calls)},
            {"finish", answer.failure.empty() ? name_of(answer.parsed.finish.reason) : "error"},
            {"failure", answer.failure}};
}

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

}  // namespace

std::string mask_secrets(std::string_view text, const std::vector<std::string>& secrets) {
    std::string masked(text);
    for (const std::string& secret : secrets) {
        if (!secret.empty()) masked = mask_one(masked, secret);
    }
    return mask_keys(masked);
}

Trace::Trace(const std::filesystem::path& path, std::vector<std::string> secrets)
    : path_(path), secrets_(std::move(secrets)) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd_ < 0) {
        throw IoError("--trace " + path.string() + ": " + std::generic_category().message(errno) +
                      "; give a file that can be written");
    }
}

Trace::~Trace() {
    ::close(fd_);
}

void Trace::write(const TraceRecord& record) {
    Json json = {{"time", unix_time()},
                 {"request", record.request_id},
                 {"path", record.path},
                 {"cache", record.cache},
                 {"prompt_tokens", record.usage.prompt},
                 {"cached_tokens", record.usage.cached},
                 {"completion_tokens", record.usage.completion},
                 {"outcome", record.outcome},
                 {"prompt", record.prompt}};
    json["answers"] = Json::array();
    for (const TraceRecord::Answer& answer : record.answers) json["answers"].push_back(to_json(answer));
    // Sampled text may end inside a character.
    const std::string line =
        mask_secrets(json.dump(-1, ' ', false, Json::error_handler_t::replace), secrets_) + "\n";
    const std::lock_guard lock(mutex_);
    if (is_broken_ || write_all(fd_, line)) return;
    is_broken_ = true;
    log::error("trace stopped",
               {{"file", path_.string()}, {"error", std::generic_category().message(errno)}});
}

}  // namespace ds4::server
