#include <algorithm>

#include "chat/forced_text.h"
#include "server/anthropic_messages.h"
#include "server/chat_completions.h"
#include "server/completions.h"
#include "server/fields.h"
#include "server/ids.h"
#include "server/log.h"
#include "server/responses.h"
#include "server/service_impl.h"

namespace ds4::server {
namespace {

// How often silent streams are looked for.
constexpr std::chrono::milliseconds kLook{250};

std::vector<TokenId> check_ids(const std::vector<TokenId>& ids, const tokenizer::Tokenizer& tokenizer) {
    for (const TokenId id : ids) {
        if (id < 0 || id >= tokenizer.size()) {
            throw invalid_field("prompt", "token " + std::to_string(id) + " is outside the vocabulary of " +
                                              std::to_string(tokenizer.size()));
        }
    }
    if (ids.empty()) throw invalid_field("prompt", "must not be empty");
    return ids;
}

// The urgency of an HTTP priority header, RFC 9218: u=0 goes first, u=7 last. Whatever else is in it, or if
// it is none, does not matter.
int priority_of(std::string_view header) {
    constexpr int kUsual = 3;
    for (std::size_t at = header.find("u="); at != std::string_view::npos; at = header.find("u=", at + 1)) {
        const bool begins = at == 0 || header[at - 1] == ',' || header[at - 1] == ' ';
        if (!begins || at + 2 >= header.size()) continue;
        const char digit = header[at + 2];
        const bool ends =
            at + 3 == header.size() || std::string_view(", ;").find(header[at + 3]) != std::string_view::npos;
        if (ends && digit >= '0' && digit <= '7') return digit - '0';
    }
    return kUsual;
}

}  // namespace

void Service::Impl::post_chat_completions(Call& call) {
    generate(call, parse_chat_completions(parse_body(call.request.body)));
}
void Service::Impl::post_completions(Call& call) {
    generate(call, parse_completions(parse_body(call.request.body)));
}
void Service::Impl::post_responses(Call& call) {
    generate(call, parse_responses(parse_body(call.request.body)));
}
void Service::Impl::post_messages(Call& call) {
    generate(call, parse_anthropic_messages(parse_body(call.request.body)));
}

chat::Prompt Service::Impl::render(GenerationRequest& request) {
    if (request.raw) {
        const auto* text = std::get_if<std::string>(&*request.raw);
        return chat::render_raw(text == nullptr ? "" : *text);
    }
    const Model& m = loaded();
    chat::RenderOptions& render_options = request.conversation.options;
    render_options.effort = chat::limit_effort(render_options.effort, m.context);
    render_options.effort_scheme = m.effort_scheme;
    render_options.tools_first = options.tools_first;
    chat::ReplayCounts counts;
    chat::Prompt prompt =
        chat::render(request.conversation, options.exact_replay ? &tool_memory : nullptr, counts);
    metrics.count_replay(counts);
    return prompt;
}

void Service::Impl::generate(Call& call, Exchange exchange) {
    Model& m = loaded();
    GenerationRequest& request = exchange.request;
    GenerationJob::Start start;
    start.prompt = render(request);
    if (request.raw && std::holds_alternative<std::vector<TokenId>>(*request.raw)) {
        start.prompt_ids = check_ids(std::get<std::vector<TokenId>>(*request.raw), m.engine.tokenizer());
        start.n_prompt = static_cast<std::int64_t>(start.prompt_ids.size());
    } else {
        start.encoded = chat::encode_segments(start.prompt, m.engine.tokenizer());
        for (const auto& ids : start.encoded) start.n_prompt += static_cast<std::int64_t>(ids.size());
    }
    start.text = start.prompt_ids.empty() ? chat::prompt_text(start.prompt.segments, m.engine.tokenizer())
                                          : chat::prompt_text(start.prompt_ids, m.engine.tokenizer());
    // One place must stay free for an answer.
    if (start.n_prompt >= m.context) throw context_overflow(request.prompt_field, start.n_prompt, m.context);
    if (request.max_tokens == 0) request.max_tokens = options.max_tokens;

    start.id = call.id;
    start.priority = priority_of(call.request.header("priority"));
    start.path = call.request.path;
    start.label = call.label;
    start.dialect = call.dialect;
    start.arrival = call.arrival;
    start.headers = common_headers(call);
    start.seed = request.has_seed ? request.sampling.seed : random_seed();
    start.exchange = std::move(exchange);
    const bool is_stream = start.exchange.request.stream;

    const auto job = std::make_shared<GenerationJob>(m.jobs, std::move(start), call.reply);
    job->submit(m.scheduler, job);
    if (!is_stream) return;
    const std::lock_guard lock(streams_mutex);
    streams.push_back(job);
}

void Service::Impl::keep_streams_alive() {
    std::unique_lock lock(streams_mutex);
    while (!is_closing) {
        streams_changed.wait_for(lock, kLook);
        std::vector<std::shared_ptr<GenerationJob>> alive;
        for (auto stream = streams.begin(); stream != streams.end();) {
            if (auto job = stream->lock()) {
                alive.push_back(std::move(job));
                ++stream;
            } else {
                stream = streams.erase(stream);
            }
        }
        lock.unlock();
        for (const auto& job : alive) job->keep_alive(options.keepalive);
        alive.clear();
        lock.lock();
    }
}

}  // namespace ds4::server
