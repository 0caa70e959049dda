// ds4-bench: speeds of prefill and decode as the context grows.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>

#include "apps/app.h"
#include "apps/bench/ceiling.h"
#include "apps/bench/commands.h"
#include "apps/bench/frontiers.h"
#include "apps/profile.h"
#include "base/output_file.h"
#include "ds4/engine.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ds4::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Of several streams before they are measured: their ways part, launches become known.
constexpr std::int64_t kStreamSteps = 4;

struct Options {
    EngineOptions engine;
    Frontiers frontiers;
    bool has_last = false;  // --ctx-max was given
    std::int64_t gen_tokens = 128;
    std::int64_t n_streams = 1;
    std::size_t read_mb = 1024;
    std::filesystem::path prompt_file, csv, svg;
};

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Random ids are as good as text: nothing but hash routing depends on them.
std::vector<TokenId> prompt_of(const Engine& engine, const Options& o) {
    const auto n = static_cast<std::size_t>(o.frontiers.last);
    std::vector<TokenId> tokens;
    if (o.prompt_file.empty()) {
        std::mt19937 random(1);
        for (std::size_t i = 0; i < n; ++i)
            tokens.push_back(
                static_cast<TokenId>(random() % static_cast<std::uint32_t>(engine.info().vocab)));
        return tokens;
    }
    tokens = engine.tokenizer().encode(app::read_text(o.prompt_file));
    if (tokens.size() < n) {
        throw Error(o.prompt_file.string() + ": has " + std::to_string(tokens.size()) +
                    " tokens, --ctx-max " + std::to_string(n) +
                    " needs as many; use a longer text or a smaller --ctx-max");
    }
    tokens.resize(n);
    return tokens;
}

class Sweep {
  public:
    explicit Sweep(const Options& o)
        : options_(o),
          file_(gguf::File::open(o.engine.model)),
          config_(Config::from_gguf(file_)),
          machine_(measure_machine(o.engine.threads, o.read_mb << 20)),
          engine_(Engine::open(o.engine)),
          on_host_(!engine_->has_device_memory()),
          prompt_(prompt_of(*engine_, o)),
          session_(engine_->new_session()) {
        if (engine_->has_tokenizer()) eos_ = engine_->tokenizer().vocabulary().eos;
    }

    std::vector<FrontierSpeed> run() {
        std::printf("model: %s (%s)\n", options_.engine.model.c_str(),
                    engine_->backend_description().c_str());
        std::printf("machine: reads %.2f GB/s, int8 %.0f GOP/s, f32 %.0f GOP/s%s\n",
                    machine_.read_bytes / 1e9, machine_.int8_ops / 1e9, machine_.f32_ops / 1e9,
                    on_host_ ? "" : " (the host: the device's ceiling is not known here)");
        std::printf("\n%8s | %8s %10s %8s %9s | %8s %10s %8s %9s | %10s\n", "context", "prefill", "tokens/s",
                    "GB/s", "ceiling", "decode", "tokens/s", "GB/s", "ceiling", "KV state");
        warm_up();
        std::vector<FrontierSpeed> speeds;
        for (const std::int64_t frontier : options_.frontiers.list()) {
            speeds.push_back(measure(frontier));
            print(speeds.back());
        }
        if (options_.engine.profile) print_profiles();
        return speeds;
    }

    std::string title() const { return engine_->info().name + ", " + engine_->backend_description(); }

  private:
    // What a phase cost at all frontiers together.
    struct Phase {
        // Returns the seconds.
        double add(Engine& engine, std::int64_t more_tokens, double more_seconds) {
            app::add_profile(profile, engine.take_profile());
            n_tokens += more_tokens;
            seconds += more_seconds;
            return more_seconds;
        }
        std::vector<OpProfile> profile;
        std::int64_t n_tokens = 0;
        double seconds = 0;
    };

    void print_profiles() const {
        const auto print = [](const char* name, const Phase& phase) {
            const std::string title = std::string("\n")
                                          .append(name)
                                          .append(" of ")
                                          .append(std::to_string(phase.n_tokens))
                                          .append(" tokens");
            std::fputs(app::profile_text(title, phase.profile, phase.seconds).c_str(), stdout);
        };
        print("prefill", prefill_);
        print("decode", decode_);
    }

    // Page tables, caches and clocks come up to speed.
    void warm_up() {
        constexpr std::int64_t kTokens = 64;
        const auto session = engine_->new_session();
        session->append(
            std::span(prompt_).first(static_cast<std::size_t>(std::min(kTokens, options_.frontiers.first))));
        for (int i = 0; i < 4; ++i) decode_one(*session);
        engine_->take_profile();
    }

    FrontierSpeed measure(std::int64_t frontier) {
        FrontierSpeed speed;
        speed.context = frontier;
        const std::int64_t before = session_->n_tokens();
        const auto begin = Clock::now();
        session_->append(std::span(prompt_).subspan(static_cast<std::size_t>(before),
                                                    static_cast<std::size_t>(frontier - before)));
        const double prefill_seconds = prefill_.add(*engine_, frontier - before, seconds_since(begin));
        speed.prefill = speed_of(before, frontier - before, engine_->max_batch(), prefill_seconds);

        const CheckpointPtr point = session_->mark();
        speed.decode = options_.n_streams == 1 ? decode_alone(frontier) : decode_together(point);
        session_ = engine_->resume({&point, 1});
        speed.kv_bytes = engine_->kv_bytes_for(frontier);
        return speed;
    }

    Speed decode_alone(std::int64_t frontier) {
        const auto begin = Clock::now();
        for (std::int64_t i = 0; i < options_.gen_tokens; ++i) decode_one(*session_);
        const double seconds = decode_.add(*engine_, options_.gen_tokens, seconds_since(begin));
        return speed_of(frontier, options_.gen_tokens, 1, seconds);
    }

    // Sessions that part at `point`, a row of each in every step. What is read is counted as if the rows were
    // one session's.
    Speed decode_together(const CheckpointPtr& point) {
        std::vector<std::unique_ptr<Session>> sessions;
        std::vector<TokenId> tokens;
        for (std::int64_t i = 0; i < options_.n_streams; ++i) {
            sessions.push_back(engine_->resume({&point, 1}));
            tokens.push_back(prompt_[static_cast<std::size_t>(i) % prompt_.size()]);
        }
        const auto step = [&] {
            std::vector<Engine::Work> work;
            for (std::size_t i = 0; i < sessions.size(); ++i)
                work.push_back({sessions[i].get(), {&tokens[i], 1}, nullptr, true, true});
            engine_->step(work);
            for (std::size_t i = 0; i < sessions.size(); ++i) tokens[i] = next_token(*sessions[i]);
        };
        for (std::int64_t i = 0; i < kStreamSteps; ++i) step();
        engine_->take_profile();
        const std::int64_t n = options_.gen_tokens * options_.n_streams, before = sessions[0]->n_tokens();
        const auto begin = Clock::now();
        for (std::int64_t i = 0; i < options_.gen_tokens; ++i) step();
        return speed_of(before, n, options_.n_streams, decode_.add(*engine_, n, seconds_since(begin)));
    }

    // Greedy, and never the end: every frontier decodes as many tokens.
    TokenId next_token(const Session& session) const {
        const TokenId best = session.best();
        return best != eos_ ? best : top_logprobs(session.logits(), 2)[1].id;
    }
    void decode_one(Session& session) {
        const TokenId best = next_token(session);
        session.append({&best, 1},
                       {.progress = {}, .on_logits = {}, .is_generated = true, .wants_best = true});
    }

    // n tokens after n_context in steps of at most `chunk`.
    Speed speed_of(std::int64_t n_context, std::int64_t n, std::int64_t chunk, double seconds) const {
        double bytes = 0, least_seconds = 0;
        for (std::int64_t done = 0; done < n; done += chunk) {
            const StepShape shape{n_context + done, std::min(chunk, n - done)};
            const Cost cost = total_cost(step_costs(file_.tensors(), config_, shape));
            bytes += cost.bytes;
            least_seconds += Ceiling(machine_, cost).seconds();
        }
        return {n, static_cast<double>(n) / seconds, bytes / seconds, static_cast<double>(n) / least_seconds};
    }

    std::string share_text(const Speed& s) const {
        char text[16] = "";
        if (on_host_) std::snprintf(text, sizeof text, "%.1f %%", 100 * s.share());
        return text;
    }

    void print(const FrontierSpeed& s) const {
        std::printf("%8lld | %8lld %10.2f %8.2f %9s | %8lld %10.2f %8.2f %9s | %10s\n",
                    static_cast<long long>(s.context), static_cast<long long>(s.prefill.tokens),
                    s.prefill.per_second, s.prefill.bytes_per_second / 1e9, share_text(s.prefill).c_str(),
                    static_cast<long long>(s.decode.tokens), s.decode.per_second,
                    s.decode.bytes_per_second / 1e9, share_text(s.decode).c_str(),
                    app::human_bytes(static_cast<double>(s.kv_bytes)).c_str());
        std::fflush(stdout);
    }

    const Options& options_;
    const gguf::File file_;
    const Config config_;
    const MachineLimits machine_;
    const std::unique_ptr<Engine> engine_;
    const bool on_host_;  // where the machine's limits are the ceiling
    const std::vector<TokenId> prompt_;
    std::unique_ptr<Session> session_;
    TokenId eos_ = -1;
    Phase prefill_, decode_;
};

// Without --ctx-max a small model is measured as far as it goes.
void fit_frontiers(Options& o) {
    const std::int64_t most =
        Config::from_gguf(gguf::File::open(o.engine.model)).max_context - o.gen_tokens - kStreamSteps;
    if (!o.has_last) {
        o.frontiers.last = std::min(o.frontiers.last, std::max<std::int64_t>(most, 1));
        o.frontiers.first = std::min(o.frontiers.first, o.frontiers.last);
    }
    if (o.frontiers.last > most) {
        throw ContextError("--ctx-max " + std::to_string(o.frontiers.last) + " and --gen-tokens " +
                           std::to_string(o.gen_tokens) + " are more than the model's " +
                           std::to_string(most + o.gen_tokens) + " tokens");
    }
    if (o.frontiers.first > o.frontiers.last) {
        throw Error("--ctx-start " + std::to_string(o.frontiers.first) + " is more than --ctx-max " +
                    std::to_string(o.frontiers.last));
    }
}

void write(const std::filesystem::path& path, const std::string& text) {
    OutputFile file(path);
    file.write(text);
    file.commit();
}

int run(Options o) {
    o.engine.model = app::find_model(o.engine.model);
    fit_frontiers(o);
    Sweep sweep(o);
    const std::vector<FrontierSpeed> speeds = sweep.run();
    if (!o.csv.empty()) write(o.csv, csv_of(speeds));
    if (!o.svg.empty()) write(o.svg, svg_of(speeds, sweep.title()));
    return 0;
}

}  // namespace

void add_sweep(CLI::App& app, Run& run_command) {
    auto o = std::make_shared<Options>();
    o->engine.backend = BackendKind::automatic;
    const CLI::Range positive(std::int64_t{1}, std::int64_t{1} << 31);
    app.add_option("-m,--model", o->engine.model, "GGUF file (default: as ds4)");
    app.add_option("-t,--threads", o->engine.threads, "Threads; 0 is one per core (0)")
        ->check(CLI::Range(0, 4096));
    app::add_backend_options(app, o->engine.backend);
    app::add_prefill_chunk_option(app, o->engine.max_batch);
    app.add_option("--prompt-file", o->prompt_file, "Text to run (default: random tokens)");
    app.add_option("--ctx-start", o->frontiers.first, "First context measured (2048)")->check(positive);
    app.add_option("--ctx-max", o->frontiers.last, "Last one (32768, or what the model allows)")
        ->check(positive);
    app.add_option("--step-incr", o->frontiers.increment,
                   "Tokens from one to the next, without --step-mul (2048)")
        ->check(positive);
    app.add_option("--step-mul", o->frontiers.factor, "Factor from one to the next")
        ->check(CLI::Range(1.0, 1e6));
    app.add_option("-n,--tokens,--gen-tokens", o->gen_tokens, "Tokens decoded at each (128)")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
    app.add_option("--streams", o->n_streams, "Sessions that decode at once (1)")->check(CLI::Range(1, 1024));
    app.add_option("--read-mb", o->read_mb, "Memory read to find the ceiling, in MiB (1024)")
        ->check(CLI::Range(16, 1 << 20));
    app.add_flag("--profile", o->engine.profile,
                 "Print where the time went, by operation and by kind of layer");
    app.add_option("--csv", o->csv, "Write the figures to this file");
    app.add_option("--svg", o->svg, "Draw the curves into this file");
    run_command = [&app, o] {
        o->has_last = app.count("--ctx-max") > 0;
        return run(*o);
    };
}

}  // namespace ds4::bench
