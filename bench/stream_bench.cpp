// usage: stream_bench MODELS_DIR [TOKENS] [TOKENS_PER_SECOND]
// What HTTP, parsing and writing cost a stream: a scripted model that takes exactly as long as one of the
// given speed, once driven by a bare loop and once behind the whole server with a client that reads the
// stream; the two alternate. Prints tokens/s of both, the ratio, and the CPU time that a streamed token costs
// beside the model.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench_server.h"
#include "chat/protocol.h"
#include "ds4/sampling.h"
#include "server/http_client.h"
#include "temporary_directory.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace ds4;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr int kRounds = 21;

double cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Measured {
    double seconds_per_token, cpu_per_token;
};

// The model alone: choose, step, choose.
Measured run_bare(Engine& engine, const std::vector<TokenId>& prompt, int n_tokens) {
    const auto session = engine.new_session();
    const Engine::Work prefill{session.get(), prompt};
    engine.step({&prefill, 1});
    const double cpu = cpu_seconds();
    const auto start = Clock::now();
    for (int i = 0; i < n_tokens; ++i) {
        const TokenId id = sample(session->logits(), {}, session->n_tokens());
        const Engine::Work work{session.get(), {&id, 1}, nullptr, true};
        engine.step({&work, 1});
    }
    return {seconds_since(start) / n_tokens, (cpu_seconds() - cpu) / n_tokens};
}

// From the first piece of text to the end of the stream.
Measured run_served(std::uint16_t port, int n_tokens) {
    test::HttpClient client(port);
    const Json body = {{"messages", {{{"role", "user"}, {"content", "talk"}}}},
                       {"stream", true},
                       {"max_tokens", n_tokens},
                       {"thinking", {{"type", "disabled"}}}};
    client.request("POST", "/v1/chat/completions", body.dump());
    client.read_until("\"content\":\"w");
    const double cpu = cpu_seconds();
    const auto start = Clock::now();
    // The client must not be what is measured: it only looks at the end of what came.
    std::string tail;
    while (tail.find("[DONE]") == std::string::npos) {
        tail.append(client.read_some());
        if (tail.size() > 64) tail.erase(0, tail.size() - 64);
    }
    return {seconds_since(start) / (n_tokens - 1), (cpu_seconds() - cpu) / (n_tokens - 1)};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: stream_bench MODELS_DIR [TOKENS] [TOKENS_PER_SECOND]\n");
        return 2;
    }
    const int n_tokens = argc > 2 ? std::atoi(argv[2]) : 2000;
    const int speed = argc > 3 ? std::atoi(argv[3]) : 500;
    const test::TemporaryDirectory dir;
    std::string text;
    for (int i = 0; i < n_tokens; ++i) text += "word ";
    const std::string opener =
        std::string(chat::protocol::assistant) + std::string(chat::protocol::end_think);
    const Json script = {{"tokenizer", std::filesystem::absolute(argv[1]).string() + "/ds4-tiny.gguf"},
                         {"decode_us", 1'000'000 / speed},
                         {"rules", {{{"after", "talk" + opener}, {"say", text}}}}};
    test::write_file(dir / "script.json", script.dump());
    EngineOptions options;
    options.model = dir / "script.json";
    const auto engine = Engine::open(options);
    const auto prompt = engine->tokenizer().encode_with_added("talk" + opener);

    const BenchServer server(*engine);
    std::vector<double> bare, served, ratio, cpu;
    for (int i = 0; i < kRounds; ++i) {
        const Measured alone = run_bare(*engine, prompt, n_tokens);
        const Measured behind = run_served(server.port(), n_tokens);
        bare.push_back(alone.seconds_per_token);
        served.push_back(behind.seconds_per_token);
        ratio.push_back(behind.seconds_per_token / alone.seconds_per_token);
        cpu.push_back(behind.cpu_per_token - alone.cpu_per_token);
    }
    std::printf("%d tokens, medians of %d pairs\n", n_tokens, kRounds);
    std::printf("model alone   %8.1f tokens/s\n", 1 / median(bare));
    std::printf("behind HTTP   %8.1f tokens/s, %.2f %% slower\n", 1 / median(served),
                100 * (median(ratio) - 1));
    std::printf("CPU time per token beside the model, client included: %.1f us\n", 1e6 * median(cpu));
    return 0;
}
