#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

#include "chat/messages.h"
#include "ds4/backend_kind.h"
#include "ds4/sampling.h"

namespace ds4::chat_app {

enum class Thinking { on, off, max };

// The command line of ds4.
struct Options {
    std::filesystem::path model;
    std::string prompt;  // -p, or the text of --prompt-file
    bool has_prompt = false;
    std::filesystem::path prompt_file;
    std::string system;
    bool raw = false;
    Thinking thinking = Thinking::on;
    std::int64_t context = 0;     // 0: the default below, or the model's maximum if that is smaller
    std::int64_t max_tokens = 0;  // 0: until the context is full
    Sampling sampling;
    int threads = 0;
    BackendKind backend = BackendKind::automatic;
    std::int64_t max_batch = 0;  // of EngineOptions

    bool dump_tokens = false;
    std::filesystem::path dump_logprobs;
    int logprobs_top_k = 20;
    std::filesystem::path perplexity;
    bool profile = false;

    static constexpr std::int64_t kDefaultContext = 32768;
};

void add_options(CLI::App& app, Options& options);

}  // namespace ds4::chat_app
