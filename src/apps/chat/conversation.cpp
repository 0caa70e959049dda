#include "apps/chat/conversation.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "apps/chat/terminal.h"
#include "base/progress.h"
#include "chat/output_parser.h"
#include "chat/protocol.h"
#include "tokenizer/tokenizer.h"

namespace ds4::chat_app {
namespace {

// Shorter prompts are done before a progress bar could be read.
constexpr std::int64_t kProgressTokens = 256;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::unique_ptr<Session> new_session(Engine& engine, std::int64_t context) {
    if (context > 0) return engine.new_session(context);
    return engine.new_session(std::min(Options::kDefaultContext, engine.info().max_context));
}

}  // namespace

Conversation::Conversation(Engine& engine, const Options& options)
    : engine_(engine), options_(options), session_(new_session(engine, options.context)) {
    clear();
}

void Conversation::clear() {
    messages_.clear();
    if (options_.system.empty()) return;
    chat::Message system;
    system.role = chat::Role::system;
    system.content = options_.system;
    messages_.push_back(system);
}

void Conversation::set_context(std::int64_t context) {
    session_ = new_session(engine_, context);
}

chat::Prompt Conversation::render(const std::string& user_text) const {
    chat::Conversation conversation;
    conversation.messages = messages_;
    chat::Message user;
    user.content = user_text;
    conversation.messages.push_back(user);
    chat::RenderOptions& render = conversation.options;
    render.thinking =
        options_.thinking == Thinking::off ? chat::ThinkingMode::chat : chat::ThinkingMode::thinking;
    render.effort = options_.thinking == Thinking::max
                        ? chat::limit_effort(chat::Effort::max, session_->context())
                        : chat::Effort::high;
    return chat::render(conversation);
}

std::vector<TokenId> Conversation::prompt_tokens(const std::string& text) const {
    return chat::to_tokens(options_.raw ? chat::render_raw(text) : render(text), engine_.tokenizer());
}

Answer Conversation::ask(const std::string& text, const TokenObserver& observer) {
    Answer answer = run(render(text), observer);
    chat::Message user;
    user.content = text;
    messages_.push_back(user);
    chat::Message reply;
    reply.role = chat::Role::assistant;
    reply.content = answer.text;
    if (!answer.thinking.empty()) reply.reasoning = answer.thinking;
    messages_.push_back(reply);
    return answer;
}

Answer Conversation::complete(const std::string& text, const TokenObserver& observer) {
    return run(chat::render_raw(text), observer);
}

Answer Conversation::run(const chat::Prompt& prompt, const TokenObserver& observer) {
    Answer answer;
    const InterruptScope interrupts;
    if (!prefill(chat::to_tokens(prompt, engine_.tokenizer()), answer.timing)) {
        answer.reason = FinishReason::cancelled;
        return answer;
    }
    answer.prefill_profile = engine_.take_profile();
    decode(prompt.start, answer, observer);
    answer.decode_profile = engine_.take_profile();
    return answer;
}

bool Conversation::prefill(const std::vector<TokenId>& prompt, Timing& timing) {
    const auto n = static_cast<std::int64_t>(prompt.size());
    if (n >= session_->context()) {
        throw ContextError("the prompt has " + std::to_string(n) + " tokens, the context holds " +
                           std::to_string(session_->context()) +
                           " with room for an answer; use a larger --ctx or a shorter prompt");
    }
    const auto start = std::chrono::steady_clock::now();
    const std::span<const TokenId> held = session_->tokens();
    const auto [same, ignored] = std::mismatch(prompt.begin(), prompt.end() - 1, held.begin(), held.end());
    const std::int64_t reused = same - prompt.begin();
    session_->truncate(reused);

    timing.reused_tokens = reused;
    timing.prompt_tokens = n - reused;
    std::unique_ptr<ProgressBar> bar;
    if (timing.prompt_tokens >= kProgressTokens) {
        bar = std::make_unique<ProgressBar>("prefill", static_cast<std::uint64_t>(timing.prompt_tokens),
                                            "tokens");
    }
    Session::AppendOptions append;
    append.progress = [&](std::int64_t done, std::int64_t) {
        if (bar) bar->update(static_cast<std::uint64_t>(done));
        return !InterruptScope::interrupted();
    };
    session_->append(std::span(prompt).subspan(static_cast<std::size_t>(reused)), append);
    if (bar) bar->finish();
    timing.prefill_seconds = seconds_since(start);
    return session_->n_tokens() == n && !InterruptScope::interrupted();
}

void Conversation::decode(chat::Prompt::Start start, Answer& answer, const TokenObserver& observer) {
    const tokenizer::Tokenizer& tokenizer = engine_.tokenizer();
    GenerateOptions generation;
    generation.sampling = options_.sampling;
    generation.max_tokens = options_.max_tokens;
    // A model that opens a turn of its own has ended this one (prompt.md 5.4).
    for (const auto marker :
         {chat::protocol::eos, chat::protocol::user, chat::protocol::assistant, chat::protocol::bos}) {
        if (const auto id = tokenizer.find_added(marker)) generation.stop.push_back(*id);
    }

    AnswerPrinter printer;
    chat::OutputParser parser({start, false});
    const auto print = [&](const std::vector<chat::OutputEvent>& events) {
        for (const chat::OutputEvent& event : events) {
            if (event.kind == chat::OutputEvent::Kind::reasoning) {
                answer.thinking += event.text;
                printer.thinking(event.text);
            } else if (event.kind == chat::OutputEvent::Kind::content) {
                answer.text += event.text;
                printer.answer(event.text);
            }
        }
    };
    const auto begin = std::chrono::steady_clock::now();
    const Generated generated = generate(*session_, generation, [&](TokenId id) {
        if (observer) observer(id, session_->logits());
        print(parser.push(tokenizer.bytes(id)));
        return !InterruptScope::interrupted();
    });
    answer.timing.decode_seconds = seconds_since(begin);
    answer.timing.answer_tokens = generated.n_tokens;
    answer.reason = generated.reason;
    print(parser.finish(generated.reason == FinishReason::stop ? chat::OutputEnd::eos
                                                               : chat::OutputEnd::length));
    printer.finish();
}

void print_timing(const Timing& t) {
    const auto rate = [](std::int64_t n, double seconds) {
        return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
    };
    std::fprintf(stderr, "prefill: %lld tokens", static_cast<long long>(t.prompt_tokens));
    if (t.reused_tokens > 0) std::fprintf(stderr, " (+%lld reused)", static_cast<long long>(t.reused_tokens));
    std::fprintf(stderr, ", %.2f t/s; decode: %lld tokens, %.2f t/s\n",
                 rate(t.prompt_tokens, t.prefill_seconds), static_cast<long long>(t.answer_tokens),
                 rate(t.answer_tokens, t.decode_seconds));
}

}  // namespace ds4::chat_app
