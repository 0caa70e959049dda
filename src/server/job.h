#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/continue_tokens.h"
#include "chat/prompt_key.h"
#include "ds4/engine.h"
#include "kv/file_format.h"
#include "server/api_error.h"

namespace ds4::server {

// The text by which a client will refer to a conversation whose reasoning it does not send back (api.md 9.4).
struct VisibleText {
    chat::PromptText prompt;
    kv::KeyKind kind = kv::KeyKind::thinking_visible;
};

// Something to generate. All calls come from the scheduler's thread, except cancel().
class Job {
  public:
    virtual ~Job() = default;

    const std::string& id() const { return id_; }
    int priority() const { return priority_; }  // 0 goes first, 7 last (RFC 9218)
    void cancel() { is_cancelled_ = true; }
    bool is_cancelled() const { return is_cancelled_; }

    // ---- the prompt

    virtual std::int64_t n_prompt() const = 0;  // tokens, if nothing of it is cached
    // How many tokens of a session the prompt would keep.
    virtual std::size_t n_kept(std::span<const TokenId> live) const = 0;
    // The prompt, keeping what a session already holds of it.
    virtual chat::Continuation prompt(std::span<const TokenId> live) const = 0;
    // What is to come after the first n_bytes of its text; nullopt if that is no place to go on from.
    virtual std::optional<std::vector<TokenId>> tokens_after(std::size_t n_bytes) const = 0;
    virtual const chat::PromptText& text() const = 0;
    // If not empty every row of the prompt is computed again and reported here.
    virtual Engine::RowLogits prompt_observer() { return {}; }
    // How many tokens of the prompt are surely part of the conversation's next one; there the session can be
    // taken back to.
    virtual std::int64_t fork_point(std::int64_t n_prompt) const = 0;
    // How many a new task of the same client would share; 0: not known.
    virtual std::int64_t anchor(std::span<const TokenId> prompt) const = 0;

    // ---- the answer

    // The prompt has so many tokens, and so many of them need not be computed.
    virtual void on_start(std::int64_t n_prompt, std::int64_t n_cached) = 0;
    // So many tokens of the prompt are computed.
    virtual void on_prefill(std::int64_t n_done) = 0;
    // What comes after the session's tokens, given its logits. `drawn`: what sampling() draws from them, if
    // somebody has already done so. Empty: the answer is over. Valid until the next call.
    virtual std::span<const TokenId> next(const Session& session, std::optional<TokenId> drawn) = 0;
    // How next() will draw a token, unless it is forced; nullopt: it will ask for Session::best() at most.
    virtual std::optional<Sampling> sampling() const = 0;
    // next() will ask for Session::best() at most, and for no log probabilities.
    virtual bool wants_best() const = 0;
    virtual bool is_in_call_block() const = 0;
    // The session is full.
    virtual void on_context_full() = 0;
    // True: there is to be another answer to the same prompt.
    virtual bool starts_another() = 0;
    // The last call: with nullptr if all answers were given, else why not. Not called when cancelled.
    virtual void on_end(const ApiError* failure) = 0;
    // After a whole answer: how the client may refer to it. `answer`: the session's tokens behind the prompt.
    virtual std::optional<VisibleText> visible_text(std::span<const TokenId> answer) const = 0;

  protected:
    Job(std::string id, int priority) : id_(std::move(id)), priority_(priority) {}

  private:
    const std::string id_;
    const int priority_;
    std::atomic<bool> is_cancelled_{false};
};

}  // namespace ds4::server
