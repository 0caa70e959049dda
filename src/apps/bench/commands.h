#pragma once

#include <CLI/CLI.hpp>
#include <functional>

// The commands of ds4-bench, one file each. Every function adds its options to `app` and sets `run` to what
// to do when the command was chosen; run returns the exit status and throws ds4::Error.
namespace ds4::bench {

using Run = std::function<int()>;

void add_kv(CLI::App& app, Run& run);
void add_replay(CLI::App& app, Run& run);
void add_serve(CLI::App& app, Run& run);
void add_roofline(CLI::App& app, Run& run);
// What the program does without a command.
void add_sweep(CLI::App& app, Run& run);

}  // namespace ds4::bench
