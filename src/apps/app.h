#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "ds4/backend_kind.h"

// What every program of ds4 does the same way.
namespace ds4::app {

// Parses, runs, and turns every failure into one line "NAME: what" on standard error. Returns the exit
// status: 0, 1 for errors, 2 for bad use. `run` is called after a successful parse.
int main_with(CLI::App& app, int argc, char** argv, const std::function<int()>& run);

// Where this program lies; "." if the system does not tell.
std::filesystem::path program_directory();

// The model to use: `given` if not empty, else ./ds4flash.gguf, else the bundled model. Throws IoError if
// there is none, naming the ways out.
std::filesystem::path find_model(const std::filesystem::path& given);

// A whole file, or standard input for "-". Throws IoError.
std::string read_text(const std::filesystem::path& path);

// --backend NAME, --cpu and --cuda, as antirez/ds4 has them.
void add_backend_options(CLI::App& app, BackendKind& backend);

// --prefill-chunk N, of EngineOptions::max_batch.
void add_prefill_chunk_option(CLI::App& app, std::int64_t& max_batch);

// 1234567 -> "1.2 MB", decimal units as disks and bandwidths use them.
std::string human_bytes(double bytes);

}  // namespace ds4::app
