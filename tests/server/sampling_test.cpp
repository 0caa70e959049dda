// Answers that are drawn, several in a step: by one thread or by many they are what the sampler alone draws.
#include <gtest/gtest.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "chat/protocol.h"
#include "ds4/engine.h"
#include "server/http.h"
#include "server/http_client.h"
#include "server/log.h"
#include "server/service.h"
#include "tokenizer/tokenizer.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

constexpr int kAnswers = 4;
constexpr int kTokens = 10;
constexpr float kTemperature = 1.5F;

Engine& engine() {
    static const std::unique_ptr<Engine> loaded = [] {
        log::set_level(log::Level::off);
        EngineOptions options;
        options.model = std::string(DS4_MODELS) + "/ds4-tiny.gguf";
        options.threads = 1;
        return Engine::open(options);
    }();
    return *loaded;
}

std::vector<TokenId> prompt_of(int answer) {
    const tokenizer::Tokenizer& tokenizer = engine().tokenizer();
    std::vector<TokenId> prompt = tokenizer.encode("Tell me story " + std::to_string(answer % 2) + ".");
    prompt.insert(prompt.begin(), *tokenizer.find_added(chat::protocol::user));
    prompt.push_back(*tokenizer.find_added(chat::protocol::assistant));
    prompt.push_back(*tokenizer.find_added(chat::protocol::end_think));
    return prompt;
}

Sampling sampling_of(int answer) {
    Sampling sampling;
    sampling.temperature = kTemperature;
    sampling.seed = static_cast<std::uint64_t>(answer);
    return sampling;
}

std::string drawn_alone(int answer) {
    const auto session = engine().new_session();
    session->append(prompt_of(answer));
    std::vector<TokenId> tokens;
    for (int i = 0; i < kTokens; ++i) {
        const TokenId token = sample(session->logits(), sampling_of(answer), session->n_tokens());
        if (engine().tokenizer().is_added(token)) break;  // the end
        tokens.push_back(token);
        session->append({&tokens.back(), 1}, {.progress = {}, .on_logits = {}, .is_generated = true});
    }
    return engine().tokenizer().decode(tokens);
}

std::vector<std::string> answers_of_a_crowd(int n_threads) {
    ServiceOptions options;
    options.scheduler.n_slots = kAnswers;
    options.scheduler.sampling_threads = n_threads;
    Service service(options);
    service.open(engine());
    HttpOptions http_options;
    http_options.port = 0;
    const HttpServer http(
        http_options,
        [&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
            service.handle(std::move(request), std::move(reply));
        },
        [&](const HttpRequest& request, const ApiError& why) { return service.refuse(request, why); });
    std::deque<test::HttpClient> clients;
    for (int i = 0; i < kAnswers; ++i) {
        const Json body = {{"prompt", prompt_of(i)},
                           {"max_tokens", kTokens},
                           {"temperature", kTemperature},
                           {"seed", sampling_of(i).seed}};
        clients.emplace_back(http.port());
        clients.back().request("POST", "/v1/completions", body.dump());
    }
    std::vector<std::string> texts;
    for (test::HttpClient& client : clients) {
        const Json answer = Json::parse(client.read(60s).body);
        texts.push_back(answer["choices"][0]["text"]);
    }
    return texts;
}

TEST(ServerSampling, AnyNumberOfThreadsDrawsTheSame) {
    std::vector<std::string> alone;
    for (int i = 0; i < kAnswers; ++i) alone.push_back(drawn_alone(i));
    EXPECT_NE(alone[0], alone[2]);  // the same prompt, another seed
    EXPECT_EQ(answers_of_a_crowd(1), alone);
    EXPECT_EQ(answers_of_a_crowd(4), alone);
}

}  // namespace
}  // namespace ds4::server
