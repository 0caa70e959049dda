#include "apps/bench/load.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>

#include "ds4/error.h"

namespace ds4::bench {
namespace {

constexpr std::array<const char*, 32> kWords = {
    "river", "house", "green",  "walks", "under", "night", "small", "water", "story", "light",  "old",
    "paper", "hand",  "sings",  "slow",  "stone", "bread", "wind",  "open",  "child", "winter", "road",
    "glass", "horse", "behind", "tree",  "cold",  "finds", "music", "table", "blue",  "friend"};

// A chunk that carries text of the answer; not the first, which names the role, nor the last ones.
bool has_text(const Json& chunk) {
    if (!chunk.contains("choices") || chunk["choices"].empty()) return false;
    const Json& delta = chunk["choices"][0]["delta"];
    const auto is_text = [&](const char* name) {
        return delta.contains(name) && delta[name].is_string() &&
               !delta[name].get_ref<const std::string&>().empty();
    };
    return is_text("content") || is_text("reasoning_content") || delta.contains("tool_calls");
}

}  // namespace

double milliseconds(Clock::duration time) {
    return std::chrono::duration<double, std::milli>(time).count();
}

double percentile(std::vector<double>& values, double share) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<std::size_t>(rank, 1) - 1];
}

// ---- prompts ----

Prompts::Prompts(HttpClient& client, std::int64_t n_tokens, std::int64_t n_answer, Decoding decoding)
    : n_answer_(n_answer), decoding_(decoding) {
    const auto count = [&](int n_words) {
        return client.post("/tokenize", body(n_words)).at("count").get<double>();
    };
    const double empty = count(0), sample = count(1000);
    n_words_ = static_cast<int>((static_cast<double>(n_tokens) - empty) / (sample - empty) * 1000);
    n_words_ = std::max(n_words_, 0);
}

Json Prompts::next() {
    return body(n_words_);
}

Json Prompts::body(int n_words) {
    std::string text = std::to_string(random_());
    for (int i = 0; i < n_words; ++i) text.append(" ").append(kWords[random_() % kWords.size()]);
    Json body = {{"model", "deepseek-v4-flash"},
                 {"messages", {{{"role", "user"}, {"content", text + " Tell me a long story about it."}}}},
                 {"max_tokens", n_answer_},
                 {"seed", 1},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}}};
    if (decoding_ == Decoding::greedy) {
        body["temperature"] = 0;
        body["thinking"] = {{"type", "disabled"}};
    }
    return body;
}

// ---- streams ----

double Stream::first_ms() const {
    return milliseconds(tokens.front() - sent);
}

std::vector<double> Stream::gaps_ms() const {
    std::vector<double> gaps;
    for (std::size_t i = 1; i < tokens.size(); ++i) gaps.push_back(milliseconds(tokens[i] - tokens[i - 1]));
    return gaps;
}

// What came is understood afterwards, so that the client takes little from the server on the same machine.
Stream ask(HttpClient& client, const Json& body, std::atomic<std::int64_t>* n_seen) {
    std::vector<std::pair<Clock::time_point, std::string>> events;
    Stream stream;
    stream.sent = Clock::now();
    client.stream("/v1/chat/completions", body, [&](std::string_view data) {
        events.emplace_back(Clock::now(), data);
        if (n_seen != nullptr) ++*n_seen;
    });
    stream.done = Clock::now();
    for (const auto& [when, data] : events) {
        const Json chunk = Json::parse(data, nullptr, false);
        if (!chunk.is_object()) continue;
        if (chunk.contains("error"))
            throw Error("the server broke off: " + chunk["error"].value("message", data));
        if (has_text(chunk)) stream.tokens.push_back(when);
        if (!chunk.contains("usage") || !chunk["usage"].is_object()) continue;
        const Json& usage = chunk["usage"];
        stream.n_prompt = usage.at("prompt_tokens");
        stream.n_completion = usage.at("completion_tokens");
        const auto cached = Json::json_pointer("/prompt_tokens_details/cached_tokens");
        if (usage.contains(cached)) stream.n_cached = usage.at(cached);
    }
    return stream;
}

std::vector<Stream> run_crowd(const Server& server, int n_clients, const std::vector<Json>& requests,
                              std::atomic<std::int64_t>* n_seen) {
    std::vector<Stream> streams(requests.size());
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex mutex;
    std::vector<std::thread> clients;
    for (int i = 0; i < n_clients; ++i) {
        clients.emplace_back([&] {
            try {
                HttpClient client(server);
                for (std::size_t k; (k = next++) < requests.size();)
                    streams[k] = ask(client, requests[k], n_seen);
            } catch (...) {
                const std::lock_guard lock(mutex);
                failure = std::current_exception();
                next = requests.size();
            }
        });
    }
    for (std::thread& client : clients) client.join();
    if (failure) std::rethrow_exception(failure);
    return streams;
}

}  // namespace ds4::bench
