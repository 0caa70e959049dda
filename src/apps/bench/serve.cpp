// ds4-bench serve: crowds of clients at a server, over HTTP.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <thread>

#include "apps/app.h"
#include "apps/bench/commands.h"
#include "apps/bench/load.h"
#include "apps/bench/server_choice.h"
#include "ds4/error.h"

namespace ds4::bench {
namespace {

struct Options {
    ServerChoice server;
    std::vector<int> clients = {1, 4, 16, 64};
    std::int64_t prompt_tokens = 128, answer_tokens = 64;
    int requests = 64;
    std::int64_t intruder = 0;  // tokens of its prompt; 0: none comes
    int max_step_ms = 500;
    bool is_greedy = false;
    std::string csv;
};

// What a crowd saw.
struct Figures {
    int n_clients = 0;
    std::size_t n_requests = 0;
    double seconds = 0;
    std::int64_t n_prompt = 0, n_completion = 0;
    std::vector<double> first_ms, gap_ms;

    double tokens_per_second() const { return static_cast<double>(n_completion) / seconds; }
};

Figures figures_of(int n_clients, const std::vector<Stream>& streams) {
    Figures f;
    f.n_clients = n_clients;
    f.n_requests = streams.size();
    auto begin = streams.front().sent, end = streams.front().done;
    for (const Stream& s : streams) {
        begin = std::min(begin, s.sent);
        end = std::max(end, s.done);
        f.n_prompt += s.n_prompt;
        f.n_completion += s.n_completion;
        if (!s.tokens.empty()) f.first_ms.push_back(s.first_ms());
        const auto gaps = s.gaps_ms();
        f.gap_ms.insert(f.gap_ms.end(), gaps.begin(), gaps.end());
    }
    f.seconds = milliseconds(end - begin) / 1000;
    return f;
}

class Output {
  public:
    explicit Output(const std::string& csv) {
        if (csv.empty()) return;
        csv_.open(csv);
        if (!csv_) throw IoError(csv + ": cannot write");
        csv_ << "clients,requests,seconds,prompt_tokens,completion_tokens,tokens_per_s,first_p50_ms,first_"
                "p95_ms,"
                "first_p99_ms,gap_p50_ms,gap_p95_ms,gap_p99_ms\n";
    }

    void head(const Options& o) const {
        std::printf("%d requests of about %lld tokens, %sanswers of at most %lld\n", o.requests,
                    static_cast<long long>(o.prompt_tokens), o.is_greedy ? "greedy " : "",
                    static_cast<long long>(o.answer_tokens));
        std::printf("%7s %8s %9s %9s %10s %7s | %26s | %26s\n", "", "", "prompt", "answer", "", "",
                    "first token, ms", "between tokens, ms");
        std::printf("%7s %8s %9s %9s %10s %7s | %8s %8s %8s | %8s %8s %8s\n", "clients", "seconds", "tokens",
                    "tokens", "answer t/s", "times", "p50", "p95", "p99", "p50", "p95", "p99");
    }

    void add(Figures f) {
        if (first_speed_ == 0) first_speed_ = f.tokens_per_second();
        std::printf("%7d %8.2f %9lld %9lld %10.1f %7.2f |", f.n_clients, f.seconds,
                    static_cast<long long>(f.n_prompt), static_cast<long long>(f.n_completion),
                    f.tokens_per_second(), f.tokens_per_second() / first_speed_);
        if (csv_.is_open()) {
            csv_ << f.n_clients << ',' << f.n_requests << ',' << f.seconds << ',' << f.n_prompt << ','
                 << f.n_completion << ',' << f.tokens_per_second();
        }
        for (std::vector<double>* values : {&f.first_ms, &f.gap_ms}) {
            for (const double share : {0.5, 0.95, 0.99}) {
                const double value = percentile(*values, share);
                std::printf(" %8.2f", value);
                if (csv_.is_open()) csv_ << ',' << value;
            }
            if (values == &f.first_ms) std::printf(" |");
        }
        std::printf("\n");
        std::fflush(stdout);
        if (csv_.is_open()) csv_ << std::endl;
    }

  private:
    std::ofstream csv_;
    double first_speed_ = 0;
};

class Bench {
  public:
    Bench(const Options& o, const Server& server) : options_(o), server_(server), control_(server) {}

    void run_crowds() {
        Output output(options_.csv);
        Prompts prompts(control_, options_.prompt_tokens, options_.answer_tokens, decoding());
        run_crowd(server_, 1, {prompts.next()});  // first touch of the weights
        output.head(options_);
        for (const int n : options_.clients) {
            std::vector<Json> requests;
            for (int i = 0; i < std::max(options_.requests, n); ++i) requests.push_back(prompts.next());
            output.add(figures_of(n, run_crowd(server_, n, requests)));
        }
    }

    // While each crowd decodes, one long prompt arrives.
    void run_intruders() {
        std::printf(
            "\na prompt of about %lld tokens arrives while all answer; steps of at most about %d ms\n",
            static_cast<long long>(options_.intruder), options_.max_step_ms);
        std::printf("%7s %12s | %26s | %26s | %10s\n", "", "intruder's", "gaps before it, ms",
                    "gaps while it is read, ms", "beyond");
        std::printf("%7s %12s | %8s %8s %8s | %8s %8s %8s | %10s\n", "clients", "first token", "p50", "p99",
                    "max", "p50", "p99", "max", "2x median");
        for (const int n : options_.clients) run_intruder(n);
    }

  private:
    void run_intruder(int n_clients);
    Prompts::Decoding decoding() const {
        return options_.is_greedy ? Prompts::Decoding::greedy : Prompts::Decoding::sampled;
    }

    const Options options_;
    const Server server_;
    HttpClient control_;
};

void Bench::run_intruder(int n_clients) {
    constexpr int events_before = 40;  // of each stream, on average
    Prompts residents(control_, options_.prompt_tokens, 100'000, decoding());
    Prompts intruders(control_, options_.intruder, 1, decoding());
    std::vector<Json> requests;
    for (int i = 0; i < n_clients; ++i) requests.push_back(residents.next());
    const Json intruder = intruders.next();
    std::atomic<std::int64_t> n_seen{0};
    std::atomic<bool> is_over{false};
    std::optional<Stream> seen;
    std::thread watcher([&] {
        while (!is_over && n_seen < events_before * n_clients)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (!is_over) seen = ask(control_, intruder);
    });
    const std::vector<Stream> streams = run_crowd(server_, n_clients, requests, &n_seen);
    is_over = true;
    watcher.join();
    if (!seen || seen->tokens.empty()) throw Error("the answers were over before the long prompt came");
    std::vector<double> before, during;
    double beyond = 0;
    for (const Stream& s : streams) {
        std::vector<double> own, own_during;
        for (std::size_t i = 1; i < s.tokens.size(); ++i) {
            const double gap = milliseconds(s.tokens[i] - s.tokens[i - 1]);
            if (s.tokens[i] < seen->sent) own.push_back(gap);
            const bool overlaps = s.tokens[i] >= seen->sent && s.tokens[i - 1] <= seen->tokens.front();
            if (overlaps) own_during.push_back(gap);
        }
        const double median = percentile(own, 0.5);
        for (const double gap : own_during) beyond = std::max(beyond, gap - 2 * median);
        before.insert(before.end(), own.begin(), own.end());
        during.insert(during.end(), own_during.begin(), own_during.end());
    }
    std::printf("%7d %12.1f |", n_clients, seen->first_ms());
    for (std::vector<double>* values : {&before, &during}) {
        for (const double share : {0.5, 0.99, 1.0}) std::printf(" %8.2f", percentile(*values, share));
        std::printf(" |");
    }
    std::printf(" %10.2f\n", beyond);
    std::fflush(stdout);
}

// The most that ask at a time.
int most_clients(const Options& o) {
    return *std::max_element(o.clients.begin(), o.clients.end()) + (o.intruder > 0 ? 1 : 0);
}

// So that nobody waits or is refused.
std::vector<std::string> own_options(const Options& o) {
    const int n = most_clients(o);
    return {"--parallel",          std::to_string(n), "--max-queue",
            std::to_string(n + 1), "--max-step-ms",   std::to_string(o.max_step_ms)};
}

// Who waits for a slot is measured, too, and would pass for a slow engine.
void warn_of_few_slots(const Options& o, const Server& server) {
    const Json status = HttpClient(server).get("/v1/status");
    if (!status.contains("slots")) return;  // it loads its model
    const auto n_slots = static_cast<int>(status["slots"].size());
    if (n_slots >= most_clients(o)) return;
    std::cerr << "ds4-bench: this server answers " << n_slots
              << " at a time, the others wait; start it with --parallel " << most_clients(o)
              << " to measure crowds\n";
}

int run(const Options& o) {
    const ChosenServer server(o.server, own_options(o));
    warn_of_few_slots(o, server.address());
    Bench bench(o, server.address());
    bench.run_crowds();
    if (o.intruder > 0) bench.run_intruders();
    return 0;
}

}  // namespace

void add_serve(CLI::App& app, Run& run_command) {
    CLI::App* command =
        app.add_subcommand("serve", "A server under load: speed and latency by number of clients");
    auto o = std::make_shared<Options>();
    o->server.add_options(*command);
    command->add_option("--clients", o->clients, "Sizes of the crowds (1,4,16,64)")
        ->delimiter(',')
        ->check(CLI::Range(1, 1000));
    command->add_option("--prompt-tokens", o->prompt_tokens, "About so many in each prompt (128)")
        ->check(CLI::Range(16, 1 << 20));
    command->add_option("--gen-tokens", o->answer_tokens, "At most so many in each answer (64)")
        ->check(CLI::Range(2, 1 << 20));
    command->add_option("--requests", o->requests, "Requests of each crowd; at least one per client (64)")
        ->check(CLI::Range(1, 1'000'000));
    command
        ->add_option("--intruder", o->intruder,
                     "Then: tokens of one long prompt that arrives while each crowd is being answered")
        ->check(CLI::Range(16, 1 << 20));
    command->add_option("--max-step-ms", o->max_step_ms, "As of ds4-server, which is started with it (500)")
        ->check(CLI::Range(1, 3'600'000));
    command->add_flag("--greedy", o->is_greedy,
                      "Ask for temperature 0 and no thinking, as other engines are mostly measured");
    command->add_option("--csv", o->csv, "Write the table of the crowds to this file, too");
    command->callback([&run_command, o] { run_command = [o] { return run(*o); }; });
}

}  // namespace ds4::bench
