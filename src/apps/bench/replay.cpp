// ds4-bench replay: sessions of agents, and how much of their prompts a server computes again.
#include <cstdio>
#include <fstream>
#include <memory>

#include "apps/app.h"
#include "apps/bench/agents.h"
#include "apps/bench/commands.h"
#include "apps/bench/server_choice.h"
#include "ds4/error.h"

namespace ds4::bench {
namespace {

struct Options {
    ServerChoice server;
    std::string csv;
    TraceSizes sizes;
};

struct Totals {
    int n_requests = 0, n_known = 0, n_hits = 0;
    std::int64_t prompt = 0, cached = 0, again = 0;
};

Totals totals_of(const std::vector<Usage>& usages) {
    Totals t;
    for (const Usage& u : usages) {
        ++t.n_requests;
        if (u.known > 0) ++t.n_known;
        if (u.known > 0 && u.again() == 0) ++t.n_hits;
        t.prompt += u.prompt;
        t.cached += u.cached;
        t.again += u.again();
    }
    return t;
}

class Output {
  public:
    explicit Output(const std::string& csv) {
        std::printf("%-12s %8s %9s %9s %9s %8s %10s %9s\n", "trace", "requests", "goes on", "prompt",
                    "cached", "hit rate", "prefilled", "of these");
        std::printf("%-12s %8s %9s %9s %9s %8s %10s %9s\n", "", "", "and hits", "tokens", "tokens", "",
                    "tokens", "again");
        if (csv.empty()) return;
        csv_.open(csv);
        if (!csv_) throw IoError(csv + ": cannot write");
        csv_ << "trace,requests,continuations,hits,prompt_tokens,cached_tokens,prefilled_tokens,again_"
                "tokens\n";
    }

    void add(const char* name, const Totals& t) {
        const std::string hits = std::to_string(t.n_hits) + "/" + std::to_string(t.n_known);
        std::printf("%-12s %8d %9s %9lld %9lld %7.1f%% %10lld %9lld\n", name, t.n_requests, hits.c_str(),
                    static_cast<long long>(t.prompt), static_cast<long long>(t.cached),
                    100.0 * static_cast<double>(t.cached) / static_cast<double>(t.prompt),
                    static_cast<long long>(t.prompt - t.cached), static_cast<long long>(t.again));
        std::fflush(stdout);
        if (!csv_.is_open()) return;
        csv_ << name << ',' << t.n_requests << ',' << t.n_known << ',' << t.n_hits << ',' << t.prompt << ','
             << t.cached << ',' << t.prompt - t.cached << ',' << t.again << std::endl;
    }

  private:
    std::ofstream csv_;
};

int run(const Options& o) {
    Output output(o.csv);
    const auto play = [&](const char* name, const auto& trace) {
        // A server of its own, so that no trace finds what another has left.
        const ChosenServer server(o.server);
        Ledger ledger;
        const auto post = [&](const std::string& path, const Json& body) {
            return HttpClient(server.address()).post(path, body);
        };
        trace(post, ledger, o.sizes);
        output.add(name, totals_of(ledger.usages()));
    };
    play("opencode", play_opencode);
    play("claude-code", play_claude_code);
    play("subagents", play_subagents);
    return 0;
}

}  // namespace

void add_replay(CLI::App& app, Run& run_command) {
    CLI::App* command =
        app.add_subcommand("replay", "Sessions of agents: what of their prompts comes from the cache");
    auto o = std::make_shared<Options>();
    o->server.add_options(*command);
    command->add_option("--system-words", o->sizes.system_words, "Length of the agents' system texts (1200)")
        ->check(CLI::Range(1, 1 << 20));
    command->add_option("--result-words", o->sizes.result_words, "Length of what tools return (150)")
        ->check(CLI::Range(1, 1 << 20));
    command->add_option("--turns", o->sizes.turns, "Tasks given one after the other (4)")
        ->check(CLI::Range(1, 1000));
    command->add_option("--gen-tokens", o->sizes.answer_tokens, "At most so many in each answer (48)")
        ->check(CLI::Range(1, 1 << 20));
    command->add_option("--csv", o->csv, "Write the table to this file, too");
    command->callback([&run_command, o] { run_command = [o] { return run(*o); }; });
}

}  // namespace ds4::bench
