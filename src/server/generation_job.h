#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "chat/render.h"
#include "chat/tool_memory.h"
#include "server/generation.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/scheduler.h"
#include "server/trace.h"
#include "server/turn.h"

namespace ds4::server {

// What all requests share. Outlives every job.
struct JobContext {
    const tokenizer::Tokenizer& tokenizer;
    chat::ToolMemory& tool_memory;
    Metrics& metrics;
    Trace* trace;  // nullptr: none
    TurnOptions turn;
    bool reuses_hidden_reasoning = true;  // Job::visible_text
};

// One request between the scheduler, which has it generate, and the client, who gets the answer in his
// dialect.
class GenerationJob : public Job {
  public:
    using Clock = std::chrono::steady_clock;

    struct Start {
        std::string id, path, label;  // label: the path as metrics know it
        Dialect dialect = Dialect::openai;
        Clock::time_point arrival;
        Headers headers;  // of the response
        Exchange exchange;
        chat::Prompt prompt;
        chat::EncodedSegments encoded;    // of `prompt`
        std::vector<TokenId> prompt_ids;  // if not empty: instead of `prompt`
        chat::PromptText text;            // of either
        std::int64_t n_prompt = 0;        // tokens
        int priority = 3;                 // RFC 9218: 0 goes first, 7 last
        std::uint64_t seed = 0;
    };
    GenerationJob(JobContext& context, Start start, std::shared_ptr<HttpReply> reply);
    ~GenerationJob() override;

    // Queues the job and, for a stream, tells the client so. Throws ApiError if there is no room; then
    // nothing was said.
    void submit(Scheduler& scheduler, const std::shared_ptr<GenerationJob>& self);
    // A stream that was silent for so long shows that it is alive.
    void keep_alive(std::chrono::milliseconds silence);

    std::int64_t n_prompt() const override { return start_.n_prompt; }
    std::size_t n_kept(std::span<const TokenId> live) const override;
    chat::Continuation prompt(std::span<const TokenId> live) const override;
    std::optional<std::vector<TokenId>> tokens_after(std::size_t n_bytes) const override;
    const chat::PromptText& text() const override { return start_.text; }
    std::int64_t anchor(std::span<const TokenId> prompt) const override;
    Engine::RowLogits prompt_observer() override;
    std::int64_t fork_point(std::int64_t n_prompt) const override;
    void on_start(std::int64_t n_prompt, std::int64_t n_cached) override;
    void on_prefill(std::int64_t n_done) override;
    std::span<const TokenId> next(const Session& session, std::optional<TokenId> drawn) override;
    std::optional<Sampling> sampling() const override { return turn_->sampling(); }
    bool wants_best() const override { return turn_->wants_best(); }
    bool is_in_call_block() const override { return turn_->is_in_call_block(); }
    void on_context_full() override;
    bool starts_another() override;
    void on_end(const ApiError* failure) override;
    std::optional<VisibleText> visible_text(std::span<const TokenId> answer) const override;

  private:
    const GenerationRequest& request() const { return start_.exchange.request; }
    ResponseWriter& writer() { return *start_.exchange.writer; }
    bool is_stream() const { return request().stream; }

    void begin_turn();
    void end_turn();
    // Everything the turn has to say goes to the client, or is kept for the whole answer.
    void deliver();
    void deliver_event(const GenerationEvent& event);
    void collect(const GenerationEvent& event);
    void echo_prompt();
    void send(const std::string& bytes);
    void answer_whole();
    void answer_failure(const ApiError& failure);
    void report(const std::string& outcome);

    JobContext& context_;
    Start start_;
    const std::shared_ptr<HttpReply> reply_;
    std::mutex writer_mutex_;  // the writer is used by keep_alive(), too
    Clock::time_point last_sent_;
    bool is_over_ = false;  // of the stream: nothing more may be written

    // Of the scheduler's thread.
    std::optional<Turn> turn_;
    std::vector<Choice> choices_;  // begun ones; the last is the turn's
    std::vector<GenerationEvent::TokenLogprobs> prompt_logprobs_;
    std::optional<ApiError> failure_;
    Usage usage_;
    bool has_started_ = false;
    Clock::time_point started_, first_token_, last_progress_;
    bool has_first_token_ = false;
    TraceRecord trace_;
    bool is_reported_ = false;
};

}  // namespace ds4::server
