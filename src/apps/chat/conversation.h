#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/chat/options.h"
#include "chat/messages.h"
#include "chat/render.h"
#include "ds4/engine.h"
#include "ds4/generate.h"

namespace ds4::chat_app {

// How long the two phases of an answer took.
struct Timing {
    std::int64_t prompt_tokens = 0;  // computed now; what the session already held is not counted
    std::int64_t reused_tokens = 0;
    double prefill_seconds = 0;
    std::int64_t answer_tokens = 0;
    double decode_seconds = 0;
};

struct Answer {
    std::string thinking, text;
    FinishReason reason = FinishReason::stop;
    Timing timing;
    std::vector<OpProfile> prefill_profile, decode_profile;  // with --profile
};

// What follows a choice of token: for --dump-logprobs.
using TokenObserver = std::function<void(TokenId id, std::span<const float> logits)>;

// One session of the engine and the messages it has seen.
class Conversation {
  public:
    Conversation(Engine& engine, const Options& options);

    // Adds a user message, prints the answer as it comes and remembers it. Ctrl+C ends the answer and keeps
    // what there is of it. Throws ContextError if the conversation no longer fits; then the message is
    // forgotten.
    Answer ask(const std::string& text, const TokenObserver& observer = {});
    // Continues a text without the chat format; remembers nothing.
    Answer complete(const std::string& text, const TokenObserver& observer = {});

    // The prompt that ask() would run.
    std::vector<TokenId> prompt_tokens(const std::string& text) const;

    void clear();
    void set_thinking(Thinking thinking) { options_.thinking = thinking; }
    // A session of another size; the messages stay and are computed again at the next question.
    void set_context(std::int64_t context);
    std::int64_t context() const { return session_->context(); }

  private:
    chat::Prompt render(const std::string& user_text) const;
    Answer run(const chat::Prompt& prompt, const TokenObserver& observer);
    // Brings the session to exactly these tokens, keeping the longest common start. Returns false if
    // interrupted.
    bool prefill(const std::vector<TokenId>& prompt, Timing& timing);
    void decode(chat::Prompt::Start start, Answer& answer, const TokenObserver& observer);

    Engine& engine_;
    Options options_;
    std::unique_ptr<Session> session_;
    std::vector<chat::Message> messages_;
};

// "prefill: 12 tokens, 34.5 t/s; decode: ..." on standard error.
void print_timing(const Timing& timing);

}  // namespace ds4::chat_app
