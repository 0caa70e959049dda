#include "apps/chat/options.h"

#include <limits>

#include "apps/app.h"

namespace ds4::chat_app {

void add_options(CLI::App& app, Options& o) {
    app.add_option("-m,--model", o.model, "GGUF file (default: ./ds4flash.gguf, else the bundled model)");
    CLI::Option* prompt = app.add_option("-p,--prompt", o.prompt, "Answer this and end; without it, chat");
    CLI::Option* file =
        app.add_option("--prompt-file", o.prompt_file, "Read the prompt from a file; - is standard input");
    file->excludes(prompt);
    app.add_option("--system", o.system, "System text before the conversation");
    app.add_flag("--raw", o.raw, "Continue the prompt as it stands, without the chat format");

    app.add_flag_callback(
        "--think", [&o] { o.thinking = Thinking::on; }, "Think before answering (default)");
    app.add_flag_callback(
        "--nothink", [&o] { o.thinking = Thinking::off; }, "Answer at once");
    app.add_flag_callback(
        "--think-max", [&o] { o.thinking = Thinking::max; },
        "Ask for the most thorough thinking (needs --ctx 393216 or more)");

    app.add_option("-n,--tokens", o.max_tokens, "Most tokens to generate; 0 is until the context is full")
        ->check(CLI::Range(std::int64_t{0}, std::numeric_limits<std::int64_t>::max()));
    app.add_option("-c,--ctx", o.context, "Context in tokens (default: 32768 or the model's maximum)")
        ->check(CLI::Range(std::int64_t{1}, std::numeric_limits<std::int64_t>::max()));
    app.add_option("--temp", o.sampling.temperature, "Temperature; 0 is greedy (1)")
        ->check(CLI::Range(0.0F, 100.0F));
    app.add_option("--top-p", o.sampling.top_p, "Keep the smallest set of this probability (1)")
        ->check(CLI::Range(0.0F, 1.0F));
    app.add_option("--top-k", o.sampling.top_k, "Keep this many tokens; 0 keeps all (0)")
        ->check(CLI::Range(0, std::numeric_limits<int>::max()));
    app.add_option("--min-p", o.sampling.min_p,
                   "Drop tokens below this share of the best one's probability (0.05)")
        ->check(CLI::Range(0.0F, 1.0F));
    app.add_option("--seed", o.sampling.seed, "Seed of the sampler (default: a new one every time)");
    app::add_backend_options(app, o.backend);
    app.add_option("-t,--threads", o.threads, "Threads; 0 is one per core (0)")->check(CLI::Range(0, 4096));
    app::add_prefill_chunk_option(app, o.max_batch);

    app.add_flag("--dump-tokens", o.dump_tokens, "Print the tokens of the prompt and end");
    app.add_option("--dump-logprobs", o.dump_logprobs,
                   "Write each generated token's best alternatives as JSON");
    app.add_option("--logprobs-top-k", o.logprobs_top_k, "Alternatives per token (20)")
        ->check(CLI::Range(1, 1000));
    app.add_flag("--profile", o.profile, "Print where the time of the answer to -p went");
    app.add_option("--perplexity", o.perplexity, "Perplexity of a text file; - is standard input");
}

}  // namespace ds4::chat_app
