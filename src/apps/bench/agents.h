#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

// What coding agents send (api.md 10.1), as far as it matters to a server that keeps what it has computed.
// Shared with the tests, which play it to a scripted model and count every row.
namespace ds4::bench {

using Json = nlohmann::json;

// Sends a body and returns the answer's. Called by several threads at a time.
using Post = std::function<Json(const std::string& path, const Json& body)>;

// One answer's usage, whatever its dialect calls it.
struct Usage {
    std::int64_t prompt = 0, cached = 0, completion = 0;
    // Of the prompt: computed for the same conversation before, by what its client knows.
    std::int64_t known = 0;

    std::int64_t again() const { return known > cached ? known - cached : 0; }
};

// Usages of one trace. Thread-safe.
class Ledger {
  public:
    void add(const Usage& usage);
    std::vector<Usage> usages() const;

  private:
    mutable std::mutex mutex_;
    std::vector<Usage> usages_;
};

struct TraceSizes {
    int system_words = 1200;  // tools come on top
    int result_words = 150;   // of what a tool returns
    int turns = 4;            // tasks that the user gives one after the other
    int answer_tokens = 48;   // at most
};

// A conversation as its client holds it; a copy is a fork.
class Conversation {
  public:
    enum class Dialect : std::uint8_t { chat, anthropic };

    // `more`: members of the body beside model, messages and the system text.
    Conversation(Dialect dialect, const std::string& system, Json more);

    // Gives a task and plays the tools until there is an answer without calls, which it appends.
    void give_task(const std::string& text, const Post& post, Ledger& ledger, const TraceSizes& sizes);
    // What the agent asks before it sends: how many tokens a next request has.
    std::int64_t count_tokens(const Post& post) const;

  private:
    void add_user(const std::string& text);
    Json body() const;
    // True if tools were called, whose results are in the messages then.
    bool ask(const Post& post, Ledger& ledger, const TraceSizes& sizes);
    bool take_chat(const Json& answer, const TraceSizes& sizes);
    bool take_anthropic(const Json& answer, const TraceSizes& sizes);

    Dialect dialect_;
    Json more_;
    Json messages_ = Json::array();
    std::int64_t n_known_ = 0;
};

// opencode: beside each task a title is asked for, without tools and with a system text of its own.
void play_opencode(const Post& post, Ledger& ledger, const TraceSizes& sizes);
// Claude Code: a history that grows by calls and results, tokens counted between requests.
void play_claude_code(const Post& post, Ledger& ledger, const TraceSizes& sizes);
// The same, and then four subagents at once that go on from its history, and it from their results.
void play_subagents(const Post& post, Ledger& ledger, const TraceSizes& sizes);

}  // namespace ds4::bench
