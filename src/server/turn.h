#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/output_parser.h"
#include "chat/render.h"
#include "ds4/engine.h"
#include "ds4/sampling.h"
#include "server/generation.h"
#include "tokenizer/tokenizer.h"

namespace ds4::server {

struct TurnOptions {
    bool honors_sampling = false;            // client's temperature etc. even while thinking (prompt.md 3)
    std::int64_t thinking_budget = 0;        // tokens; 0: none. A request's own goes first
    std::int64_t call_block_tokens = 65536;  // a block of calls that is longer ends the answer
};

// One answer while it is generated: chooses every token and says what it means to the client. Knows the rules
// of prompt.md 5 and api.md 8; the parser it drives knows the syntax.
class Turn {
  public:
    // `seed`: of the sampling. The references must outlive it.
    Turn(const tokenizer::Tokenizer& tokenizer, const GenerationRequest& request, const TurnOptions& options,
         chat::Prompt::Start start, std::uint64_t seed);

    // The tokens that follow, given logits (vocab) after `position` tokens. Usually one; more are text that
    // is forced upon the model. Empty: the answer is over. `drawn`: what sampling() draws, if it is known.
    std::span<const TokenId> next(const Session& session, std::optional<TokenId> drawn);
    // How next() will draw a token, unless it is forced; nullopt: it takes Session::best().
    std::optional<Sampling> sampling() const;
    // next() will ask for Session::best() at most, and for no log probabilities.
    bool wants_best() const;
    // There is no room for what next() wanted.
    void end_at_limit();

    // What is new for the client since the last call.
    struct Output {
        bool restarts = false;  // forget what came before: the model gets another try
        std::vector<GenerationEvent> events;
    };
    Output take_output();

    bool is_in_call_block() const { return parser_.in_block(); }
    bool is_over() const { return finish_.has_value() || failure_.has_value(); }
    // Once over: how it ended, or why there is no answer.
    const std::optional<Finish>& finish() const { return finish_; }
    const std::optional<ApiError>& failure() const { return failure_; }

    std::int64_t n_tokens() const { return n_tokens_; }
    std::int64_t n_reasoning() const { return n_reasoning_; }
    // The text of a complete block of calls and the calls' ids; empty if there is none to remember.
    const std::string& call_block() const { return call_block_; }
    const std::vector<std::string>& call_ids() const { return call_ids_; }
    // All text chosen or forced, as the model has it.
    const std::string& raw_text() const { return raw_text_; }

  private:
    using Segments = std::vector<chat::Segment>;

    chat::OutputParser make_parser(chat::Prompt::Start start) const;
    bool offers_tools() const;
    // Text that the rules put in here; empty: the model is free.
    std::vector<TokenId> forced_tokens();
    bool is_greedy() const;
    TokenId choose(const Session& session, std::optional<TokenId> drawn) const;
    void record_logprobs(std::span<const float> logits, TokenId id);
    // Takes a token as output.
    void accept(TokenId id);
    void check_block_length();
    void add_events(std::vector<chat::OutputEvent> events);
    void add_event(chat::OutputEvent event);
    void end_output(chat::OutputEnd end);
    // The parser is done.
    void conclude();
    void end_with(Finish::Reason reason) { finish_ = Finish{reason, {}}; }
    void end_with_calls();
    void end_with_broken_block();

    const tokenizer::Tokenizer& tokenizer_;
    const GenerationRequest& request_;
    const TurnOptions options_;
    const std::optional<std::int64_t> thinking_budget_;  // tokens
    Sampling sampling_;
    std::vector<TokenId> stop_tokens_;

    chat::OutputParser parser_;
    std::vector<TokenId> next_tokens_;
    std::string raw_text_;
    std::int64_t n_tokens_ = 0, n_reasoning_ = 0;
    std::int64_t n_block_tokens_ = 0;  // of the open block of calls
    std::size_t n_ended_calls_ = 0;
    bool must_open_call_ = false;     // a forced call has not been opened yet
    bool must_end_thinking_ = false;  // a call started inside the reasoning
    bool has_retried_ = false;
    bool is_at_limit_ = false;

    Output output_;
    std::vector<GenerationEvent::TokenLogprobs> pending_logprobs_;
    std::vector<std::string> call_ids_;
    std::string call_block_;
    std::optional<Finish> finish_;
    std::optional<ApiError> failure_;
};

}  // namespace ds4::server
