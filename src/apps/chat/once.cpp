#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/chat/commands.h"
#include "apps/chat/conversation.h"
#include "apps/profile.h"
#include "base/output_file.h"
#include "tokenizer/tokenizer.h"

namespace ds4::chat_app {
namespace {

// The form of the hosted API's logprobs: a token's text and bytes, and the best alternatives at its place.
class LogprobRecorder {
  public:
    LogprobRecorder(const tokenizer::Tokenizer& tokenizer, int top_k)
        : tokenizer_(tokenizer), top_k_(top_k) {}

    void add(TokenId id, std::span<const float> logits) {
        nlohmann::ordered_json step = token(id, logprob(logits, id));
        for (const TokenLogprob& t : top_logprobs(logits, top_k_)) {
            step["top_logprobs"].push_back(token(t.id, t.logprob));
        }
        steps_.push_back(std::move(step));
    }

    void write(const std::filesystem::path& path, std::size_t prompt_tokens) const {
        nlohmann::ordered_json document;
        document["prompt_tokens"] = prompt_tokens;
        document["steps"] = steps_;
        OutputFile file(path);
        file.write(document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
        file.commit();
    }

  private:
    nlohmann::ordered_json token(TokenId id, float value) const {
        const std::string bytes(tokenizer_.bytes(id));
        nlohmann::ordered_json out;
        out["id"] = id;
        out["token"] = bytes;
        out["bytes"] = nlohmann::ordered_json::array();
        for (const char c : bytes) out["bytes"].push_back(static_cast<unsigned char>(c));
        out["logprob"] = value;
        return out;
    }

    const tokenizer::Tokenizer& tokenizer_;
    int top_k_;
    nlohmann::ordered_json steps_ = nlohmann::ordered_json::array();
};

void print_profiles(const Answer& answer) {
    const Timing& t = answer.timing;
    const auto title = [](const char* phase, std::int64_t n) {
        return std::string("\n").append(phase).append(" of ").append(std::to_string(n)).append(" tokens");
    };
    std::cerr << app::profile_text(title("prefill", t.prompt_tokens), answer.prefill_profile,
                                   t.prefill_seconds)
              << app::profile_text(title("decode", t.answer_tokens), answer.decode_profile, t.decode_seconds);
}

}  // namespace

int run_once(Engine& engine, const Options& options) {
    Conversation conversation(engine, options);
    LogprobRecorder recorder(engine.tokenizer(), options.logprobs_top_k);
    TokenObserver observer;
    if (!options.dump_logprobs.empty()) {
        observer = [&](TokenId id, std::span<const float> logits) { recorder.add(id, logits); };
    }
    const std::size_t prompt_tokens = conversation.prompt_tokens(options.prompt).size();
    const Answer answer = options.raw ? conversation.complete(options.prompt, observer)
                                      : conversation.ask(options.prompt, observer);
    if (!options.dump_logprobs.empty()) recorder.write(options.dump_logprobs, prompt_tokens);
    if (answer.reason == FinishReason::context)
        std::fputs("ds4: the context is full; use a larger --ctx\n", stderr);
    print_timing(answer.timing);
    if (options.profile) print_profiles(answer);
    constexpr int kInterruptedStatus = 130;  // as a shell reports a program that Ctrl+C ended
    return answer.reason == FinishReason::cancelled ? kInterruptedStatus : 0;
}

int run_dump_tokens(Engine& engine, const Options& options) {
    const Conversation conversation(engine, options);
    for (const TokenId id : conversation.prompt_tokens(options.prompt)) {
        const nlohmann::json text = std::string(engine.tokenizer().bytes(id));
        std::cout << id << '\t' << text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                  << '\n';
    }
    return 0;
}

}  // namespace ds4::chat_app
