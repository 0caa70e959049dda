// usage: first_token_bench MODEL.gguf [PROMPT_WORDS]
// Time from sending a request whose prompt is fully cached to its first token, beside the model's own decode
// step in the same session. Prints medians and the difference.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench_server.h"
#include "server/http_client.h"

namespace {

using namespace ds4;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr int kRounds = 41;

std::string request_body(int n_words, int n_tokens) {
    std::string prompt = "Why is the sky blue?";
    for (int i = 0; i < n_words; ++i) prompt += " word" + std::to_string(i % 97);
    return Json{{"messages", {{{"role", "user"}, {"content", prompt}}}},
                {"stream", true},
                {"max_tokens", n_tokens},
                {"temperature", 0},
                {"thinking", {{"type", "disabled"}}}}
        .dump();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: first_token_bench MODEL.gguf [PROMPT_WORDS]\n");
        return 2;
    }
    const int n_words = argc > 2 ? std::atoi(argv[2]) : 1000;
    EngineOptions options;
    options.model = argv[1];
    const auto engine = Engine::open(options);
    const BenchServer server(*engine);

    const std::string body = request_body(n_words, 1);
    const auto first_token = [&] {
        test::HttpClient client(server.port());
        const auto start = Clock::now();
        client.request("POST", "/v1/chat/completions", body);
        client.read_until("\"content\":\"");  // the role chunk's empty content
        client.read_until("finish_reason\":\"");
        return 1000 * seconds_since(start);
    };
    first_token();  // prefill
    std::vector<double> first, decode;
    for (int i = 0; i < kRounds; ++i) {
        first.push_back(first_token());
        const auto session = engine->new_session();
        const std::vector<TokenId> start_tokens(64, 1);
        session->append(start_tokens);
        const TokenId id = 1;
        const auto start = Clock::now();
        session->append({&id, 1}, {.progress = {}, .on_logits = {}, .is_generated = true});
        decode.push_back(1000 * seconds_since(start));
    }
    std::printf(
        "prompt fully cached: first token after %.2f ms; decode step of the model %.2f ms; above it %.2f "
        "ms\n",
        median(first), median(decode), median(first) - median(decode));
    return 0;
}
