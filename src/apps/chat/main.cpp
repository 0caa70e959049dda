#include <cstdio>
#include <random>

#include "apps/app.h"
#include "apps/chat/commands.h"
#include "apps/chat/options.h"
#include "ds4/engine.h"

namespace {

using ds4::chat_app::Options;

std::uint64_t random_seed() {
    std::random_device device;
    return (static_cast<std::uint64_t>(device()) << 32) | device();
}

void read_prompt(const CLI::App& app, Options& options) {
    options.has_prompt = app.count("--prompt") > 0 || app.count("--prompt-file") > 0;
    if (!options.prompt_file.empty()) {
        options.prompt = ds4::app::read_text(options.prompt_file);
    } else if (options.prompt == "-") {
        options.prompt = ds4::app::read_text("-");
    }
    if (options.has_prompt && options.prompt.empty()) throw ds4::Error("the prompt is empty");
    if (options.dump_tokens && !options.has_prompt)
        throw ds4::Error("--dump-tokens needs a prompt; give one with -p");
    if (options.profile && !options.has_prompt)
        throw ds4::Error("--profile needs a prompt; give one with -p");
}

int run(const CLI::App& app, Options& options) {
    read_prompt(app, options);
    if (app.count("--seed") == 0) options.sampling.seed = random_seed();
    ds4::EngineOptions engine_options;
    engine_options.model = ds4::app::find_model(options.model);
    engine_options.threads = options.threads;
    engine_options.backend = options.backend;
    engine_options.plan_context = options.context > 0 ? options.context : Options::kDefaultContext;
    engine_options.max_batch = options.max_batch;
    engine_options.profile = options.profile;
    const auto engine = ds4::Engine::open(engine_options);
    std::fprintf(stderr, "model: %s (%s)\n", engine_options.model.c_str(),
                 engine->backend_description().c_str());
    if (!options.perplexity.empty()) return ds4::chat_app::run_perplexity(*engine, options);
    if (options.dump_tokens) return ds4::chat_app::run_dump_tokens(*engine, options);
    if (options.has_prompt) return ds4::chat_app::run_once(*engine, options);
    return ds4::chat_app::run_interactive(*engine, options);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Chat with DeepSeek V4 Flash, or answer one prompt with -p.", "ds4");
    Options options;
    ds4::chat_app::add_options(app, options);
    return ds4::app::main_with(app, argc, argv, [&] { return run(app, options); });
}
