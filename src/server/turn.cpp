#include "server/turn.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "chat/forced_text.h"
#include "chat/protocol.h"
#include "server/ids.h"

namespace ds4::server {
namespace {

using chat::Prompt;

constexpr int kCallIdDigits = 32;

bool is_thinking(const GenerationRequest& request) {
    return !request.raw && request.conversation.options.thinking == chat::ThinkingMode::thinking;
}

std::optional<std::int64_t> budget_of(const GenerationRequest& request, const TurnOptions& options) {
    if (request.thinking_budget) return request.thinking_budget;
    if (options.thinking_budget > 0) return options.thinking_budget;
    return std::nullopt;
}

Sampling sampling_of(const GenerationRequest& request, const TurnOptions& options, std::uint64_t seed) {
    // While thinking the model keeps to the sampling it was made for, whatever the client sends.
    Sampling sampling = is_thinking(request) && !options.honors_sampling ? Sampling{} : request.sampling;
    sampling.seed = seed;
    return sampling;
}

// A model that opens a turn of its own has ended this one.
std::vector<TokenId> stop_tokens_of(const tokenizer::Tokenizer& tokenizer) {
    namespace protocol = chat::protocol;
    std::vector<TokenId> ids;
    for (const auto marker : {protocol::eos, protocol::user, protocol::assistant, protocol::bos}) {
        if (const auto id = tokenizer.find_added(marker)) ids.push_back(*id);
    }
    return ids;
}

bool contains(const std::vector<TokenId>& ids, TokenId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Turn::Turn(const tokenizer::Tokenizer& tokenizer, const GenerationRequest& request,
           const TurnOptions& options, Prompt::Start start, std::uint64_t seed)
    : tokenizer_(tokenizer),
      request_(request),
      options_(options),
      thinking_budget_(budget_of(request, options)),
      sampling_(sampling_of(request, options, seed)),
      stop_tokens_(stop_tokens_of(tokenizer)),
      parser_(make_parser(start)) {
    must_open_call_ = offers_tools() && (request.tool_choice == ToolChoice::required ||
                                         request.tool_choice == ToolChoice::named);
}

bool Turn::offers_tools() const {
    return !request_.raw && !request_.conversation.tools.empty() && request_.tool_choice != ToolChoice::none;
}

chat::OutputParser Turn::make_parser(Prompt::Start start) const {
    chat::OutputParser::Options options;
    options.start = start;
    options.offers_tools = offers_tools();
    options.stop = request_.stop;
    if (options.offers_tools) options.tools = chat::tool_shapes(request_.conversation.tools);
    options.holds_broken_block = !request_.stream;
    return chat::OutputParser(std::move(options));
}

std::span<const TokenId> Turn::next(const Session& session, std::optional<TokenId> drawn) {
    next_tokens_.clear();
    if (is_over()) return {};
    if (request_.max_tokens > 0 && n_tokens_ >= request_.max_tokens) {
        end_at_limit();
        return {};
    }
    for (auto forced = forced_tokens(); !forced.empty() && !is_over(); forced = forced_tokens()) {
        for (const TokenId id : forced) accept(id);
    }
    if (next_tokens_.empty()) {
        const TokenId id = choose(session, drawn);
        if (contains(stop_tokens_, id)) {
            end_output(chat::OutputEnd::eos);
        } else {
            if (request_.top_logprobs) record_logprobs(session.logits(), id);
            accept(id);
        }
    }
    // The last token of an answer is not computed: the next prompt brings it along.
    if (is_over()) return {};
    return next_tokens_;
}

void Turn::end_at_limit() {
    is_at_limit_ = true;
    end_output(chat::OutputEnd::length);
}

Turn::Output Turn::take_output() {
    return std::exchange(output_, {});
}

// ---- choosing ----

std::vector<TokenId> Turn::forced_tokens() {
    const auto encode = [this](const Segments& segments) { return chat::to_tokens(segments, tokenizer_); };
    if (parser_.in_reasoning()) {
        if (std::exchange(must_end_thinking_, false)) {
            Segments segments = chat::end_of_thinking();
            segments.push_back({false, "\n\n"});
            return encode(segments);
        }
        // Never inside a character: the client would get a broken one and send that back.
        const bool is_used_up = thinking_budget_ && n_reasoning_ >= *thinking_budget_;
        if (is_used_up && !parser_.has_partial_character()) return encode(chat::end_of_thinking());
        return {};
    }
    if (parser_.in_block()) {
        const bool is_enough = !request_.parallel_tool_calls && n_ended_calls_ > 0;
        return is_enough ? encode(chat::closing_of_block()) : std::vector<TokenId>{};
    }
    if (std::exchange(must_open_call_, false)) return encode(chat::opening_of_call(request_.tool_name));
    return {};
}

// Sampled syntax breaks, greedy payload loops (api.md 8).
bool Turn::is_greedy() const {
    return sampling_.temperature <= 0 || parser_.next_is_syntax();
}

bool Turn::wants_best() const {
    return is_greedy() && !request_.top_logprobs;
}

std::optional<Sampling> Turn::sampling() const {
    return is_greedy() ? std::nullopt : std::optional(sampling_);
}

TokenId Turn::choose(const Session& session, std::optional<TokenId> drawn) const {
    if (is_greedy()) return session.best();
    return drawn ? *drawn : sample(session.logits(), sampling_, session.n_tokens());
}

void Turn::record_logprobs(std::span<const float> logits, TokenId id) {
    GenerationEvent::TokenLogprobs token;
    token.token = std::string(tokenizer_.bytes(id));
    token.logprob = logprob(logits, id);
    for (const TokenLogprob& other : top_logprobs(logits, *request_.top_logprobs)) {
        token.top.push_back({std::string(tokenizer_.bytes(other.id)), other.logprob});
    }
    pending_logprobs_.push_back(std::move(token));
}

// ---- output ----

void Turn::accept(TokenId id) {
    if (is_over()) return;
    ++n_tokens_;
    const bool was_reasoning = parser_.in_reasoning();
    if (was_reasoning) ++n_reasoning_;
    const std::string_view bytes = tokenizer_.bytes(id);
    raw_text_ += bytes;
    next_tokens_.push_back(id);
    std::vector<chat::OutputEvent> events = parser_.push(bytes);
    // Tokens that became a marker have no place in the text.
    const bool is_marker =
        parser_.in_block() || (was_reasoning && !parser_.in_reasoning() && tokenizer_.is_added(id));
    if (is_marker) pending_logprobs_.clear();
    add_events(std::move(events));
    if (parser_.is_done()) {
        conclude();
    } else {
        check_block_length();
    }
}

void Turn::check_block_length() {
    n_block_tokens_ = parser_.in_block() ? n_block_tokens_ + 1 : 0;
    if (n_block_tokens_ > options_.call_block_tokens) end_at_limit();
}

void Turn::add_events(std::vector<chat::OutputEvent> events) {
    for (chat::OutputEvent& event : events) add_event(std::move(event));
}

void Turn::add_event(chat::OutputEvent event) {
    using From = chat::OutputEvent::Kind;
    using To = GenerationEvent::Kind;
    GenerationEvent out;
    out.text = std::move(event.text);
    switch (event.kind) {
        case From::reasoning:
            out.kind = To::reasoning;
            out.logprobs = std::exchange(pending_logprobs_, {});
            break;
        case From::content:
            out.kind = To::content;
            out.logprobs = std::exchange(pending_logprobs_, {});
            break;
        case From::call_begin:
            out.kind = To::call_begin;
            call_ids_.push_back(random_id(request_.call_id_prefix, kCallIdDigits));
            out.call_id = call_ids_.back();
            break;
        case From::arguments:
            out.kind = To::arguments;
            break;
        case From::call_end:
            out.kind = To::call_end;
            out.call_id = call_ids_.back();
            ++n_ended_calls_;
            break;
        case From::call_in_reasoning:
            must_end_thinking_ = true;
            return;
    }
    output_.events.push_back(std::move(out));
}

// ---- the end ----

void Turn::end_output(chat::OutputEnd end) {
    add_events(parser_.finish(end));
    conclude();
}

void Turn::conclude() {
    switch (parser_.finish_reason()) {
        case chat::FinishReason::stop:
            return end_with(Finish::Reason::stop);
        case chat::FinishReason::length:
            return end_with(Finish::Reason::length);
        case chat::FinishReason::stop_sequence:
            finish_ = Finish{Finish::Reason::stop_sequence, parser_.stop_sequence()};
            return;
        case chat::FinishReason::tool_calls:
            return end_with_calls();
        case chat::FinishReason::broken_block:
            return end_with_broken_block();
        case chat::FinishReason::error:
            break;
    }
    // A call was announced and cannot be completed. Whoever does not stream has seen nothing of it.
    if (!request_.stream && n_ended_calls_ > 0) return end_with(Finish::Reason::tool_calls);
    failure_ = ApiError(ErrorKind::internal, "The model broke off a tool call. Try again.");
}

void Turn::end_with_calls() {
    end_with(Finish::Reason::tool_calls);
    // A block whose end the parser had to supply is not what the model would have written.
    if (parser_.raw_block().ends_with("tool_calls>")) call_block_ = parser_.raw_block();
}

// The model gets one more try with the error before its eyes; what it writes then is taken as it is.
void Turn::end_with_broken_block() {
    if (has_retried_ || is_at_limit_) {
        output_.events.push_back({GenerationEvent::Kind::content, parser_.raw_block(), {}, {}});
        return end_with(is_at_limit_ ? Finish::Reason::length : Finish::Reason::stop);
    }
    has_retried_ = true;
    output_.restarts = true;
    output_.events.clear();
    pending_logprobs_.clear();
    call_ids_.clear();
    n_ended_calls_ = 0;
    n_block_tokens_ = 0;
    const auto mode = request_.conversation.options.thinking;
    const auto again = chat::to_tokens(chat::retry_after_broken_block(mode), tokenizer_);
    next_tokens_.insert(next_tokens_.end(), again.begin(), again.end());
    parser_ =
        make_parser(mode == chat::ThinkingMode::thinking ? Prompt::Start::reasoning : Prompt::Start::content);
}

}  // namespace ds4::server
