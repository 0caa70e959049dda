// ds4-synth: model files with random weights.
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/app.h"
#include "base/progress.h"
#include "synth/flash.h"
#include "synth/synth.h"

namespace {

using ds4::synth::Recipe;
using ds4::synth::SynthOptions;

const std::map<std::string, Recipe> kRecipes = {
    {"q2", Recipe::q2}, {"q4", Recipe::q4}, {"bf16", Recipe::bf16}};

int run(SynthOptions options) {
    std::unique_ptr<ds4::ProgressBar> bar;
    options.progress = [&](std::uint64_t done, std::uint64_t total) {
        if (!bar) bar = std::make_unique<ds4::ProgressBar>("write", total, "B");
        bar->update(done);
    };
    const auto start = std::chrono::steady_clock::now();
    const ds4::synth::SynthResult result = ds4::synth::write_model(options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (bar) bar->finish();
    const auto file_bytes = static_cast<double>(result.file_bytes);
    std::printf("%s: %s of tensors in a file of %s, %s/s\n", options.out.c_str(),
                ds4::app::human_bytes(static_cast<double>(result.tensor_bytes)).c_str(),
                ds4::app::human_bytes(file_bytes).c_str(),
                ds4::app::human_bytes(file_bytes / seconds.count()).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Write a model file of Flash's shape with random weights, for work on speed and memory.",
                 "ds4-synth");
    SynthOptions options;
    std::string recipe = "q2";
    std::uint32_t n_layers = 43;
    std::vector<std::uint32_t> periods;
    app.add_option("-o,--out", options.out, "GGUF file to write")->required();
    app.add_option("--recipe", recipe, "q2, q4 or bf16 (q2)")->check(CLI::IsMember(kRecipes));
    app.add_option("--layers", n_layers, "Only the first N layers (43)")->check(CLI::Range(1, 43));
    app.add_option("--alias", periods,
                   "E,D: experts repeat every E layers, all else every D, on the same bytes")
        ->delimiter(',')
        ->expected(2)
        ->check(CLI::Range(1, 43));
    app.add_option("--seed", options.seed, "Seed of the weights (1)")->check(CLI::NonNegativeNumber);
    app.add_option("--threads", options.threads, "Threads; 0 is one per core (0)")
        ->check(CLI::Range(0, 4096));
    return ds4::app::main_with(app, argc, argv, [&] {
        options.recipe = kRecipes.at(recipe);
        options.config = ds4::synth::flash_config(n_layers);
        options.name = "random weights, " + recipe + ", seed " + std::to_string(options.seed);
        if (!periods.empty()) {
            options.expert_period = periods[0];
            options.dense_period = periods[1];
        }
        return run(options);
    });
}
