// ds4-bench kv: what checkpoints cost, in time and in bytes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sstream>

#include "apps/app.h"
#include "apps/bench/commands.h"
#include "backend/cpu/cpu_backend.h"
#include "kv/store.h"
#include "model/kv_state.h"
#include "tokenizer/tokenizer.h"

namespace ds4::bench {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Options {
    EngineOptions engine;
    fs::path directory = fs::temp_directory_path();
    std::string lengths = "1000,10000,100000";
    std::int64_t conversation = 100'000;  // tokens
    int turns = 200;
    int runs = 5;
};

double milliseconds_since(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

std::vector<std::int64_t> parse_lengths(const std::string& list) {
    std::vector<std::int64_t> lengths;
    std::stringstream in(list);
    for (std::string item; std::getline(in, item, ',');) {
        const auto n = std::strtoll(item.c_str(), nullptr, 10);
        if (n < 1) throw Error("--tokens " + list + ": '" + item + "' is no number of tokens");
        lengths.push_back(n);
    }
    return lengths;
}

std::vector<TokenId> random_tokens(const Engine& engine, std::int64_t n) {
    std::mt19937 random(1);
    std::vector<TokenId> tokens(static_cast<std::size_t>(n));
    for (TokenId& t : tokens)
        t = static_cast<TokenId>(random() % static_cast<std::uint32_t>(engine.info().vocab));
    return tokens;
}

// Decoding waits while a point is taken. What that costs depends on the shapes alone, so it can be seen with
// those of Flash (model.md 1) without its weights.
void print_point_of_flash(int runs) {
    Config flash;
    flash.n_layers = 43;
    flash.ratios = {0, 0};
    while (static_cast<std::int64_t>(flash.ratios.size()) < flash.n_layers)
        flash.ratios.push_back(flash.ratios.size() % 2 == 0 ? 4 : 128);
    flash.head_dim = 512;
    flash.rope_dims = 64;
    flash.index_dim = 128;
    flash.window = 128;
    const auto backend = make_cpu_backend(1);
    const KvLayout layout(flash, flash.ratios, quant::KvFormat::packed);
    KvState state(layout, *backend);
    std::printf("\ntaking a point of DeepSeek V4 Flash, medians of %d:\n", runs);
    for (const std::int64_t n : {1023, 1024}) {
        const std::vector<TokenId> tokens(static_cast<std::size_t>(n - state.n_tokens()));
        state.reserve(n - state.n_tokens());
        state.advance(tokens);
        std::vector<double> times;
        for (int run = 0; run < runs; ++run) {
            const auto begin = Clock::now();
            const KvCheckpoint point = state.checkpoint();
            times.push_back(milliseconds_since(begin));
        }
        std::printf("  after %lld tokens  %5.1f MB  %5.2f ms\n", static_cast<long long>(n),
                    static_cast<double>(layout.state_bytes(n)) / 1e6, median(times));
    }
}

// A directory of its own, away with it at the end.
class Scratch {
  public:
    explicit Scratch(const fs::path& parent) {
        std::string name = (parent / "ds4-bench-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw IoError(parent.string() + ": cannot make a directory there");
        path_ = name;
    }
    ~Scratch() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

class Bench {
  public:
    explicit Bench(const Options& o) : options_(o), engine_(Engine::open(o.engine)) {}

    void print_sizes() const {
        const double per_token =
            static_cast<double>(engine_->kv_bytes_for(1 << 20) - engine_->kv_bytes_for(0)) / (1 << 20);
        std::printf("state in memory: %.1f bytes a token and %zu of rings and frontiers\n", per_token,
                    engine_->kv_bytes_for(0));
        for (const std::int64_t n :
             {std::int64_t{32768}, std::int64_t{100'000}, std::int64_t{300'000}, std::int64_t{1 << 20}}) {
            std::printf("  %8lld tokens  %s\n", static_cast<long long>(n),
                        app::human_bytes(static_cast<double>(engine_->kv_bytes_for(n))).c_str());
        }
    }

    // Whole checkpoints of so many tokens: prefill, taking the snapshot, saving, restoring.
    void print_lengths() {
        std::printf("\n%8s %12s %12s %10s %10s %10s %10s %10s %9s\n", "tokens", "file bytes", "bytes/token",
                    "prefill ms", "point ms", "save ms", "save MB/s", "load ms", "speed-up");
        for (const std::int64_t n : parse_lengths(options_.lengths)) print_length(n);
    }

    void print_conversation();

  private:
    kv::StoreOptions store_options(const fs::path& directory) const {
        kv::StoreOptions o;
        o.directory = directory;
        o.max_bytes = std::uint64_t{1} << 40;
        o.min_tokens = 1;
        o.context = engine_->info().max_context;
        o.now = [] { return std::uint64_t{1'800'000'000}; };
        o.log = [](const std::string& line) { std::cerr << line << '\n'; };
        return o;
    }

    kv::Key key_of(std::span<const TokenId> tokens) const { return {engine_->tokenizer().decode(tokens)}; }

    kv::Store::Save save_of(const CheckpointPtr& checkpoint) const {
        kv::Store::Save save;
        save.checkpoint = checkpoint;
        save.key = [this, checkpoint] { return key_of(checkpoint->tokens()); };
        return save;
    }

    void print_length(std::int64_t n);

    const Options options_;
    const std::unique_ptr<Engine> engine_;
};

void Bench::print_length(std::int64_t n) {
    const std::vector<TokenId> tokens = random_tokens(*engine_, n);
    const auto session = engine_->new_session();
    auto begin = Clock::now();
    session->append(tokens);
    const double prefill = milliseconds_since(begin);
    begin = Clock::now();
    const CheckpointPtr point = session->mark();
    const double mark = milliseconds_since(begin);
    std::vector<double> saves, loads;
    std::uint64_t bytes = 0;
    for (int run = 0; run < options_.runs; ++run) {
        const Scratch scratch(options_.directory);
        kv::Store store(store_options(scratch.path()), *engine_);
        begin = Clock::now();
        if (store.save(save_of(point)) != kv::Store::Saved::written) throw Error("nothing was saved");
        saves.push_back(milliseconds_since(begin));
        bytes = store.totals().bytes_written;
        begin = Clock::now();
        const auto found = store.find(key_of(tokens));
        const auto loaded = found.empty() ? std::nullopt : store.load(found.front());
        if (!loaded) throw Error("what was saved was not found");
        const auto resumed = engine_->resume(loaded->points);
        loads.push_back(milliseconds_since(begin));
        if (!std::ranges::equal(resumed->logits(), session->logits()))
            throw Error("it came back differently");
    }
    const double save = median(saves), load = median(loads);
    std::printf("%8lld %12llu %12.1f %10.1f %10.2f %10.2f %10.0f %10.2f %9.0f\n", static_cast<long long>(n),
                static_cast<unsigned long long>(bytes), static_cast<double>(bytes) / static_cast<double>(n),
                prefill, mark, save, static_cast<double>(bytes) / save / 1e3, load, prefill / load);
    std::fflush(stdout);
}

// An agent's conversation that is saved after every turn, beside a scheme that writes all of it each time.
void Bench::print_conversation() {
    const std::vector<TokenId> tokens = random_tokens(*engine_, options_.conversation);
    const auto session = engine_->new_session();
    const Scratch scratch(options_.directory);
    kv::Store store(store_options(scratch.path()), *engine_);
    std::uint64_t whole = 0, wide = 0, last_whole = 0;
    std::vector<double> saves;
    for (int turn = 1; turn <= options_.turns; ++turn) {
        const auto done = static_cast<std::size_t>(session->n_tokens());
        const auto end = static_cast<std::size_t>(options_.conversation * turn / options_.turns);
        session->append(std::span(tokens).subspan(done, end - done));
        const CheckpointPtr point = session->mark();
        const auto begin = Clock::now();
        store.save(save_of(point));
        saves.push_back(milliseconds_since(begin));
        last_whole = point->rows_bytes(0) + point->state().size() + point->logits().size_bytes() +
                     key_of(std::span(tokens).first(end)).text.size() + end * sizeof(TokenId);
        whole += last_whole;
        // Rows as f32, four times ours at least: what the first design writes.
        wide += last_whole + 3 * point->rows_bytes(0);
    }
    const kv::Store::Totals totals = store.totals();
    std::printf("\n%lld tokens in %d turns, saved after each: %.2f ms a turn (median)\n",
                static_cast<long long>(options_.conversation), options_.turns, median(saves));
    const auto mb = [](std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
    std::printf(
        "  written  %10.1f MB   whole prefixes in our form %10.1f MB (%.1f times), as f32 %10.1f MB (%.1f "
        "times)\n",
        mb(totals.bytes_written), mb(whole), mb(whole) / mb(totals.bytes_written), mb(wide),
        mb(wide) / mb(totals.bytes_written));
    std::printf("  kept     %10.1f MB   one whole prefix %.1f MB\n", mb(totals.n_bytes), mb(last_whole));
    const auto begin = Clock::now();
    const auto found = store.find(key_of(tokens));
    const auto loaded = found.empty() ? std::nullopt : store.load(found.front());
    if (!loaded) throw Error("what was saved was not found");
    std::printf("  restored from its %d files in %.1f ms\n", options_.turns, milliseconds_since(begin));
}

int run(Options o) {
    o.engine.model = app::find_model(o.engine.model);
    const auto lengths = parse_lengths(o.lengths);
    o.engine.max_context = std::max(o.conversation, *std::max_element(lengths.begin(), lengths.end()));
    Bench bench(o);
    bench.print_sizes();
    print_point_of_flash(std::max(o.runs, 21));
    bench.print_lengths();
    bench.print_conversation();
    return 0;
}

}  // namespace

void add_kv(CLI::App& app, Run& run_command) {
    CLI::App* command = app.add_subcommand("kv", "Checkpoints: bytes, and time to save and to restore them");
    auto o = std::make_shared<Options>();
    command->add_option("-m,--model", o->engine.model, "GGUF file (default: the bundled model)");
    command->add_option("-t,--threads", o->engine.threads, "Threads; 0 is one per core (0)");
    command->add_option("--dir", o->directory, "Where to write (the system's temporary directory)");
    command->add_option("--tokens", o->lengths, "Lengths of single checkpoints (1000,10000,100000)");
    command->add_option("--conversation", o->conversation, "Tokens of the conversation (100000)")
        ->check(CLI::Range(1, 1 << 20));
    command->add_option("--turns", o->turns, "Its turns (200)")->check(CLI::Range(1, 10000));
    command->add_option("--runs", o->runs, "Runs of each save and load; their median counts (5)")
        ->check(CLI::Range(1, 1000));
    command->callback([&run_command, o] { run_command = [o] { return run(*o); }; });
}

}  // namespace ds4::bench
