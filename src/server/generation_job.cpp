#include "server/generation_job.h"

#include <cmath>
#include <limits>
#include <utility>

#include "server/log.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;

// A longer prefill says how far it is.
constexpr std::chrono::seconds kProgressInterval{5};

double seconds_between(GenerationJob::Clock::time_point begin, GenerationJob::Clock::time_point end) {
    return std::chrono::duration<double>(end - begin).count();
}

HttpResponse stream_head(Headers headers) {
    HttpResponse head;
    head.headers = std::move(headers);
    head.headers.emplace_back("Content-Type", "text/event-stream");
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");
    return head;
}

// What went wrong inside is for the log; the client gets a number to ask about.
ApiError for_client(const ApiError& failure, const std::string& id) {
    if (failure.kind != ErrorKind::internal) return failure;
    return {ErrorKind::internal, "Internal error (request " + id + ")"};
}

}  // namespace

GenerationJob::GenerationJob(JobContext& context, Start start, std::shared_ptr<HttpReply> reply)
    : Job(start.id, start.priority), context_(context), start_(std::move(start)), reply_(std::move(reply)) {
    usage_.prompt = start_.n_prompt;
}

GenerationJob::~GenerationJob() {
    if (is_reported_ || !is_cancelled()) return;
    try {
        context_.metrics.count_cancelled();
        report("cancelled");
    } catch (const std::exception&) {
        // Without memory for a log line there is nothing to say, and nobody to say it to.
    }
}

// ---- the client's side ----

void GenerationJob::submit(Scheduler& scheduler, const std::shared_ptr<GenerationJob>& self) {
    // Held until the head is out, so that no event can be sent before it.
    const std::lock_guard lock(writer_mutex_);
    scheduler.submit(self);
    reply_->on_close([weak = std::weak_ptr(self), &scheduler] {
        if (const auto job = weak.lock()) {
            job->cancel();
            scheduler.wake();
        }
    });
    if (!is_stream()) return;
    reply_->begin(stream_head(start_.headers));
    send(writer().start(start_.n_prompt));
}

void GenerationJob::keep_alive(std::chrono::milliseconds silence) {
    const std::lock_guard lock(writer_mutex_);
    if (!is_stream() || is_over_ || Clock::now() - last_sent_ < silence) return;
    send(writer().keepalive());
}

void GenerationJob::send(const std::string& bytes) {
    if (bytes.empty()) return;
    reply_->write(bytes);
    last_sent_ = Clock::now();
}

// ---- the scheduler's side ----

chat::Continuation GenerationJob::prompt(std::span<const TokenId> live) const {
    if (!start_.prompt_ids.empty()) return {start_.prompt_ids, n_kept(live)};
    return chat::continue_tokens(start_.prompt, start_.encoded, live, context_.tokenizer);
}

std::size_t GenerationJob::n_kept(std::span<const TokenId> live) const {
    if (start_.prompt_ids.empty()) {
        return chat::count_continued(start_.prompt, start_.encoded, live, context_.tokenizer);
    }
    const auto& ids = start_.prompt_ids;
    return static_cast<std::size_t>(std::mismatch(ids.begin(), ids.end(), live.begin(), live.end()).first -
                                    ids.begin());
}

std::optional<std::vector<TokenId>> GenerationJob::tokens_after(std::size_t n_bytes) const {
    if (!start_.prompt_ids.empty()) return std::nullopt;
    return chat::tokens_after(start_.prompt.segments, n_bytes, context_.tokenizer);
}

std::int64_t GenerationJob::anchor(std::span<const TokenId> prompt) const {
    return request().raw ? 0 : chat::anchor_of(prompt, context_.tokenizer);
}

std::optional<VisibleText> GenerationJob::visible_text(std::span<const TokenId> answer) const {
    const bool is_cut = choices_.empty() || choices_.back().finish.reason == Finish::Reason::length;
    if (!context_.reuses_hidden_reasoning || failure_ || is_cut || request().raw) return std::nullopt;
    const bool drops_think = request().conversation.tools.empty();
    if (!drops_think && request().client_keeps_reasoning) return std::nullopt;
    auto text = chat::text_without_reasoning(start_.prompt, drops_think, answer, context_.tokenizer);
    if (!text) return std::nullopt;
    const bool is_responses = start_.label == "/responses";
    return VisibleText{std::move(*text),
                       is_responses ? kv::KeyKind::responses_visible : kv::KeyKind::thinking_visible};
}

Engine::RowLogits GenerationJob::prompt_observer() {
    if (!request().echo || !request().top_logprobs || !prompt_logprobs_.empty()) return {};
    const auto ids = prompt({}).tokens;
    prompt_logprobs_.emplace_back();
    prompt_logprobs_.back().token = std::string(context_.tokenizer.bytes(ids.front()));
    prompt_logprobs_.back().logprob = std::numeric_limits<float>::quiet_NaN();
    return [this, ids](std::int64_t position, std::span<const float> logits) {
        const auto next = static_cast<std::size_t>(position) + 1;
        if (next >= ids.size()) return;
        GenerationEvent::TokenLogprobs& token = prompt_logprobs_.emplace_back();
        token.token = std::string(context_.tokenizer.bytes(ids[next]));
        token.logprob = logprob(logits, ids[next]);
        for (const TokenLogprob& other : top_logprobs(logits, *request().top_logprobs)) {
            token.top.push_back({std::string(context_.tokenizer.bytes(other.id)), other.logprob});
        }
    };
}

// Without tools the next prompt shows this turn without its reasoning: it parts at the <think> that ends this
// prompt (prompt.md 2.1).
std::int64_t GenerationJob::fork_point(std::int64_t n_prompt) const {
    const bool drops_thinking =
        start_.prompt.start == chat::Prompt::Start::reasoning && request().conversation.tools.empty();
    return drops_thinking ? n_prompt - 1 : n_prompt;
}

void GenerationJob::on_start(std::int64_t n_prompt, std::int64_t n_cached) {
    begin_turn();
    if (std::exchange(has_started_, true)) return;
    started_ = last_progress_ = Clock::now();
    usage_.prompt = n_prompt;
    usage_.cached = n_cached;
    log::debug("request started", {{"request", id()},
                                   {"prompt", n_prompt},
                                   {"cached", n_cached},
                                   {"queued_s", seconds_between(start_.arrival, started_)}});
}

void GenerationJob::on_prefill(std::int64_t n_done) {
    const auto now = Clock::now();
    if (now - last_progress_ < kProgressInterval) return;
    last_progress_ = now;
    log::info("prefill", {{"request", id()},
                          {"done", n_done},
                          {"of", usage_.prompt},
                          {"tokens_per_s",
                           static_cast<double>(n_done - usage_.cached) / seconds_between(started_, now)}});
}

void GenerationJob::begin_turn() {
    const auto index = static_cast<std::uint64_t>(choices_.size());
    choices_.emplace_back();
    turn_.emplace(context_.tokenizer, request(), context_.turn, start_.prompt.start, start_.seed + index);
}

std::span<const TokenId> GenerationJob::next(const Session& session, std::optional<TokenId> drawn) {
    if (!std::exchange(has_first_token_, true)) first_token_ = Clock::now();
    if (turn_->n_tokens() == 0 && request().echo) echo_prompt();
    const auto tokens = turn_->next(session, drawn);
    deliver();
    if (turn_->is_over()) end_turn();
    return tokens;
}

void GenerationJob::on_context_full() {
    turn_->end_at_limit();
    deliver();
    end_turn();
}

void GenerationJob::echo_prompt() {
    GenerationEvent event;
    event.text = start_.prompt_ids.empty() ? std::get<std::string>(*request().raw)
                                           : context_.tokenizer.decode(start_.prompt_ids);
    event.logprobs = prompt_logprobs_;
    deliver_event(event);
}

void GenerationJob::deliver() {
    Turn::Output output = turn_->take_output();
    if (output.restarts) choices_.back() = Choice{};
    for (const GenerationEvent& event : output.events) deliver_event(event);
}

void GenerationJob::deliver_event(const GenerationEvent& event) {
    if (is_stream()) {
        const std::lock_guard lock(writer_mutex_);
        send(writer().event(static_cast<int>(choices_.size()) - 1, event));
    }
    if (!is_stream() || context_.trace != nullptr) collect(event);
}

void GenerationJob::collect(const GenerationEvent& event) {
    Choice& choice = choices_.back();
    switch (event.kind) {
        case Kind::reasoning:
            choice.reasoning += event.text;
            choice.reasoning_logprobs.insert(choice.reasoning_logprobs.end(), event.logprobs.begin(),
                                             event.logprobs.end());
            break;
        case Kind::content:
            choice.content += event.text;
            choice.content_logprobs.insert(choice.content_logprobs.end(), event.logprobs.begin(),
                                           event.logprobs.end());
            break;
        case Kind::call_begin:
            choice.calls.push_back({event.call_id, event.text, ""});
            break;
        case Kind::arguments:
            break;
        case Kind::call_end:
            choice.calls.back().arguments = event.text;
            break;
    }
}

void GenerationJob::end_turn() {
    usage_.completion += turn_->n_tokens();
    usage_.reasoning += turn_->n_reasoning();
    if (!turn_->call_block().empty()) context_.tool_memory.store(turn_->call_ids(), turn_->call_block());
    Choice& choice = choices_.back();
    // A call without its end is none.
    std::erase_if(choice.calls, [](const Choice::Call& call) { return call.arguments.empty(); });
    if (turn_->failure()) {
        failure_ = turn_->failure();
    } else {
        choice.finish = *turn_->finish();
        const std::lock_guard lock(writer_mutex_);
        if (is_stream()) send(writer().finish(static_cast<int>(choices_.size()) - 1, choice.finish));
    }
    if (context_.trace != nullptr) {
        trace_.answers.push_back(
            {turn_->raw_text(), choice, turn_->failure() ? turn_->failure()->what() : ""});
    }
}

bool GenerationJob::starts_another() {
    return !failure_ && choices_.size() < static_cast<std::size_t>(request().n_choices);
}

void GenerationJob::on_end(const ApiError* failure) {
    if (failure == nullptr && failure_) failure = &*failure_;
    if (failure != nullptr) {
        answer_failure(*failure);
        report(failure->what());
        return;
    }
    context_.metrics.count_answer(
        usage_, {seconds_between(start_.arrival, started_), seconds_between(start_.arrival, first_token_),
                 seconds_between(started_, first_token_), seconds_between(first_token_, Clock::now())});
    // Whoever has the answer finds it in the metrics, too.
    answer_whole();
    report("ok");
}

void GenerationJob::answer_whole() {
    const std::lock_guard lock(writer_mutex_);
    is_over_ = true;
    if (is_stream()) {
        context_.metrics.count_request(start_.label, 200);
        send(writer().end(usage_));
        reply_->end();
        return;
    }
    HttpResponse response;
    response.headers = start_.headers;
    response.headers.emplace_back("Content-Type", "application/json");
    response.body = writer().body(choices_, usage_);
    context_.metrics.count_request(start_.label, 200);
    reply_->send(std::move(response));
}

void GenerationJob::answer_failure(const ApiError& failure) {
    const ApiError shown = failure_ ? failure : for_client(failure, id());
    const std::lock_guard lock(writer_mutex_);
    is_over_ = true;
    if (is_stream()) {
        context_.metrics.count_request(start_.label, 200);
        send(writer().fail(shown));
        reply_->end();
        return;
    }
    HttpResponse response;
    response.status = http_status(shown.kind);
    context_.metrics.count_request(start_.label, response.status);
    response.headers = start_.headers;
    response.headers.emplace_back("Content-Type", "application/json");
    const std::string wait = retry_after(shown.kind);
    if (!wait.empty()) response.headers.emplace_back("Retry-After", wait);
    // The engine is deterministic: what failed inside will fail again, and SDKs would try three times.
    if (shown.kind == ErrorKind::internal) response.headers.emplace_back("x-should-retry", "false");
    response.body = error_body(shown, start_.dialect, id());
    reply_->send(std::move(response));
}

void GenerationJob::report(const std::string& outcome) {
    is_reported_ = true;
    const auto now = Clock::now();
    const double decode_seconds = has_first_token_ ? seconds_between(first_token_, now) : 0;
    const double speed = decode_seconds > 0 ? static_cast<double>(usage_.completion) / decode_seconds : 0;
    log::info("request",
              {{"request", id()},
               {"path", start_.path},
               {"outcome", outcome},
               {"stream", is_stream()},
               {"prompt", usage_.prompt},
               {"cached", usage_.cached},
               {"completion", usage_.completion},
               {"reasoning", usage_.reasoning},
               {"first_token_s", has_first_token_ ? seconds_between(start_.arrival, first_token_) : 0.0},
               {"total_s", seconds_between(start_.arrival, now)},
               {"tokens_per_s", speed}});
    if (context_.trace == nullptr) return;
    trace_.request_id = id();
    trace_.path = start_.path;
    trace_.prompt = start_.prompt_ids.empty() ? chat::to_text(start_.prompt)
                                              : context_.tokenizer.decode(start_.prompt_ids);
    trace_.usage = usage_;
    trace_.cache =
        usage_.cached == 0 ? "cold" : "live prefix of " + std::to_string(usage_.cached) + " tokens";
    trace_.outcome = outcome;
    context_.trace->write(trace_);
}

}  // namespace ds4::server
