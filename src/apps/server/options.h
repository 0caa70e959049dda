#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <string>

#include "ds4/engine.h"
#include "server/http.h"
#include "server/service.h"

namespace ds4::server_app {

struct Options {
    EngineOptions engine;
    server::HttpOptions http;
    server::ServiceOptions service;

    std::filesystem::path api_key_file;
    bool is_insecure = false;
    std::string effort_scheme;  // "2026-04", "0731" or empty
    std::string log_level = "info";
    std::int64_t max_body_mb = 64;
    std::int64_t keepalive_ms = 4000;
    std::int64_t max_step_ms = 500;
    std::size_t kv_ram_mb = 0;
    std::uint64_t kv_disk_mb = 4096;
    double shutdown_timeout = 10;  // seconds
};

void add_options(CLI::App& app, Options& options);

// What follows from the options together. Throws Error: a key that cannot be read, a host beyond this machine
// without a key.
void complete(Options& options);

}  // namespace ds4::server_app
