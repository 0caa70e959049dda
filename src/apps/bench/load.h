#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "apps/bench/http.h"

// Clients that ask, wait for the whole streamed answer, and ask again.
namespace ds4::bench {

using Clock = std::chrono::steady_clock;

// Makes chat requests that have nothing in common but their first token.
class Prompts {
  public:
    enum class Decoding : std::uint8_t {
        sampled,
        greedy
    };  // as the server has it; temperature 0, no thinking

    // Asks the server how it counts.
    Prompts(HttpClient& client, std::int64_t n_tokens, std::int64_t n_answer, Decoding decoding);

    // About n_tokens of prompt; each call makes another one.
    Json next();

  private:
    Json body(int n_words);

    std::mt19937 random_{1};
    std::int64_t n_answer_;
    Decoding decoding_;
    int n_words_ = 0;
};

// One streamed answer.
struct Stream {
    Clock::time_point sent, done;
    std::vector<Clock::time_point> tokens;  // when each piece of text came
    std::int64_t n_prompt = 0, n_cached = 0, n_completion = 0;

    double first_ms() const;  // needs a token
    std::vector<double> gaps_ms() const;
};

// Asks and reads to the end. `n_seen`, if given, counts events while they come.
Stream ask(HttpClient& client, const Json& body, std::atomic<std::int64_t>* n_seen = nullptr);

// So many clients, which share the requests. In the order of the requests.
std::vector<Stream> run_crowd(const Server& server, int n_clients, const std::vector<Json>& requests,
                              std::atomic<std::int64_t>* n_seen = nullptr);

double milliseconds(Clock::duration time);

// Of values that are sorted here; the nearest one at or above that share. 0 if there are none.
double percentile(std::vector<double>& values, double share);

}  // namespace ds4::bench
