#include "apps/bench/agents.h"

#include <array>
#include <exception>
#include <random>
#include <thread>
#include <utility>

namespace ds4::bench {
namespace {

// A model that calls for ever must not hold up the trace.
constexpr int kMostCalls = 4;
constexpr int kSubagents = 4;

// Every one starts with another word, as different tasks do.
std::string task(int turn) {
    constexpr std::array<const char*, 8> tasks = {
        "Look at the files", "Build the program", "Run every test",    "Explain the failure",
        "Fix the parser",    "Add an option",     "Rename the module", "Write down what is left"};
    const auto k = static_cast<std::size_t>(turn);
    return tasks[k % tasks.size()] +
           (k < tasks.size() ? std::string() : ", round " + std::to_string(k / tasks.size()));
}

std::string prose(const std::string& start, int n_words, unsigned seed) {
    constexpr std::array<const char*, 16> words = {
        "file", "test", "the", "function", "returns", "value", "build",  "error",
        "line", "with", "of",  "change",   "and",     "read",  "before", "module"};
    std::mt19937 random(seed);
    std::string text = start;
    for (int i = 0; i < n_words; ++i) text.append(" ").append(words[random() % words.size()]);
    return text;
}

Json parameters(const std::vector<std::string>& names) {
    Json properties = Json::object();
    for (const std::string& name : names) properties[name] = {{"type", "string"}};
    return {{"type", "object"}, {"properties", properties}, {"required", names}};
}

const std::vector<std::pair<std::string, std::vector<std::string>>> kTools = {
    {"run", {"command"}}, {"read", {"path"}}, {"edit", {"path", "before", "after"}}, {"search", {"pattern"}}};

Json chat_tools() {
    Json tools = Json::array();
    for (const auto& [name, arguments] : kTools) {
        tools.push_back({{"type", "function"},
                         {"function",
                          {{"name", name},
                           {"description", "Tool of the agent: " + name},
                           {"parameters", parameters(arguments)}}}});
    }
    return tools;
}

Json anthropic_tools() {
    Json tools = Json::array();
    for (const auto& [name, arguments] : kTools) {
        tools.push_back({{"name", name},
                         {"description", "Tool of the agent: " + name},
                         {"input_schema", parameters(arguments)}});
    }
    return tools;
}

Conversation claude_code(const TraceSizes& sizes) {
    return {Conversation::Dialect::anthropic,
            prose("You are an agent for the command line.", sizes.system_words, 2),
            {{"max_tokens", sizes.answer_tokens},
             {"thinking", {{"type", "adaptive"}}},
             {"output_config", {{"effort", "high"}}},
             {"tools", anthropic_tools()}}};
}

void work(Conversation& conversation, const Post& post, Ledger& ledger, const TraceSizes& sizes) {
    for (int turn = 0; turn < sizes.turns; ++turn) {
        conversation.count_tokens(post);
        conversation.give_task(task(turn), post, ledger, sizes);
    }
}

// All at once; throws what the first of them threw.
void run_together(const std::vector<std::function<void()>>& actions) {
    std::vector<std::thread> threads;
    std::exception_ptr failure;
    std::mutex mutex;
    for (const auto& action : actions) {
        threads.emplace_back([&] {
            try {
                action();
            } catch (...) {
                const std::lock_guard lock(mutex);
                failure = std::current_exception();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

void Ledger::add(const Usage& usage) {
    const std::lock_guard lock(mutex_);
    usages_.push_back(usage);
}

std::vector<Usage> Ledger::usages() const {
    const std::lock_guard lock(mutex_);
    return usages_;
}

// ---- a conversation ----

Conversation::Conversation(Dialect dialect, const std::string& system, Json more)
    : dialect_(dialect), more_(std::move(more)) {
    more_["model"] = "deepseek-v4-flash";
    if (dialect_ == Dialect::chat) {
        messages_.push_back({{"role", "system"}, {"content", system}});
    } else {
        more_["system"] = system;
    }
}

void Conversation::add_user(const std::string& text) {
    if (dialect_ == Dialect::chat) {
        messages_.push_back({{"role", "user"}, {"content", text}});
    } else {
        messages_.push_back({{"role", "user"}, {"content", {{{"type", "text"}, {"text", text}}}}});
    }
}

Json Conversation::body() const {
    Json body = more_;
    body["messages"] = messages_;
    return body;
}

std::int64_t Conversation::count_tokens(const Post& post) const {
    if (messages_.empty()) return 0;
    return post("/v1/messages/count_tokens", body()).at("input_tokens");
}

void Conversation::give_task(const std::string& text, const Post& post, Ledger& ledger,
                             const TraceSizes& sizes) {
    add_user(text);
    for (int i = 0; i < kMostCalls; ++i) {
        if (!ask(post, ledger, sizes)) return;
    }
}

bool Conversation::ask(const Post& post, Ledger& ledger, const TraceSizes& sizes) {
    const bool is_chat = dialect_ == Dialect::chat;
    const Json answer = post(is_chat ? "/v1/chat/completions" : "/v1/messages", body());
    const Json& usage = answer.at("usage");
    Usage u;
    if (is_chat) {
        u.cached = usage.at("prompt_tokens_details").at("cached_tokens");
        u.prompt = usage.at("prompt_tokens");
        u.completion = usage.at("completion_tokens");
    } else {
        u.cached = usage.at("cache_read_input_tokens");
        u.prompt = usage.at("input_tokens").get<std::int64_t>() + u.cached;
        u.completion = usage.at("output_tokens");
    }
    u.known = n_known_;
    ledger.add(u);
    // The last token that was sampled was not computed.
    n_known_ = u.prompt + u.completion - 1;
    return is_chat ? take_chat(answer, sizes) : take_anthropic(answer, sizes);
}

bool Conversation::take_chat(const Json& answer, const TraceSizes& sizes) {
    const Json message = answer.at("choices").at(0).at("message");
    messages_.push_back(message);
    if (!message.contains("tool_calls")) return false;
    for (const Json& call : message["tool_calls"]) {
        const std::string result =
            prose("Result:", sizes.result_words, static_cast<unsigned>(messages_.size()));
        messages_.push_back({{"role", "tool"}, {"tool_call_id", call.at("id")}, {"content", result}});
    }
    return true;
}

bool Conversation::take_anthropic(const Json& answer, const TraceSizes& sizes) {
    messages_.push_back({{"role", "assistant"}, {"content", answer.at("content")}});
    Json results = Json::array();
    for (const Json& block : answer.at("content")) {
        if (block.at("type") != "tool_use") continue;
        const std::string result =
            prose("Result:", sizes.result_words, static_cast<unsigned>(messages_.size()));
        results.push_back({{"type", "tool_result"}, {"tool_use_id", block.at("id")}, {"content", result}});
    }
    if (results.empty()) return false;
    messages_.push_back({{"role", "user"}, {"content", results}});
    return true;
}

// ---- agents ----

void play_opencode(const Post& post, Ledger& ledger, const TraceSizes& sizes) {
    const Json limit = {{"max_tokens", sizes.answer_tokens}};
    const std::string names = prose("You name conversations.", 200, 1);
    Json more = limit;
    more["tools"] = chat_tools();
    more["tool_choice"] = "auto";
    Conversation main(Conversation::Dialect::chat, prose("You are an agent for code.", sizes.system_words, 3),
                      more);
    for (int turn = 0; turn < sizes.turns; ++turn) {
        Conversation title(Conversation::Dialect::chat, names, limit);
        run_together({[&] { title.give_task(task(turn), post, ledger, sizes); },
                      [&] { main.give_task(task(turn), post, ledger, sizes); }});
    }
}

void play_claude_code(const Post& post, Ledger& ledger, const TraceSizes& sizes) {
    Conversation conversation = claude_code(sizes);
    work(conversation, post, ledger, sizes);
}

void play_subagents(const Post& post, Ledger& ledger, const TraceSizes& sizes) {
    Conversation main = claude_code(sizes);
    work(main, post, ledger, sizes);
    std::vector<Conversation> subagents(kSubagents, main);
    std::vector<std::function<void()>> actions;
    for (std::size_t i = 0; i < subagents.size(); ++i) {
        actions.emplace_back([&, i] {
            subagents[i].give_task(task(sizes.turns + static_cast<int>(i)), post, ledger, sizes);
            subagents[i].give_task("Say what you did", post, ledger, sizes);
        });
    }
    run_together(actions);
    main.give_task("All four are done. What is left?", post, ledger, sizes);
}

}  // namespace ds4::bench
