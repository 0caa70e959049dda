#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation.h"

namespace ds4::server {

// What happened to one request, for whoever wants to know why an agent behaved as it did.
struct TraceRecord {
    std::string request_id, path, prompt;
    struct Answer {
        std::string sampled;  // as the model wrote it
        Choice parsed;
        std::string failure;  // empty: none
    };
    std::vector<Answer> answers;
    Usage usage;
    std::string cache;    // how the prompt met the live sessions
    std::string outcome;  // ok, cancelled, or the error
};

// A file of JSON lines, one per request, appended as requests end; readable by its owner only. Keys of the
// API and strings that look like some are masked. Thread-safe.
class Trace {
  public:
    // Throws IoError. `secrets`: what must never show up in it.
    Trace(const std::filesystem::path& path, std::vector<std::string> secrets);
    ~Trace();

    void write(const TraceRecord& record);

  private:
    const std::filesystem::path path_;
    const std::vector<std::string> secrets_;
    std::mutex mutex_;
    int fd_ = -1;
    bool is_broken_ = false;  // a write failed and was reported
};

// `text` with every secret, and every "sk-..." key, replaced by "***".
std::string mask_secrets(std::string_view text, const std::vector<std::string>& secrets);

}  // namespace ds4::server
