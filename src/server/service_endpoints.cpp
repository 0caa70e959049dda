#include <nlohmann/json.hpp>

#include "server/anthropic_messages.h"
#include "server/chat_completions.h"
#include "server/fields.h"
#include "server/ids.h"
#include "server/models.h"
#include "server/page.h"
#include "server/service_impl.h"

namespace ds4::server {
namespace {

using Out = nlohmann::ordered_json;

constexpr std::string_view kJson = "application/json";

std::string dump(const Out& json) {
    return json.dump(-1, ' ', false, Out::error_handler_t::replace);
}

std::string_view name_of(SchedulerStatus::Slot::Phase phase) {
    switch (phase) {
        case SchedulerStatus::Slot::Phase::free:
            return "free";
        case SchedulerStatus::Slot::Phase::reading:
            return "reading";
        case SchedulerStatus::Slot::Phase::waiting:
            return "waiting";
        case SchedulerStatus::Slot::Phase::prefill:
            return "prefill";
        case SchedulerStatus::Slot::Phase::decode:
            return "decode";
    }
    return "";
}

std::string_view name_of(Health health) {
    return health == Health::ok ? "ok" : health == Health::restarting ? "restarting" : "gpu failed";
}

std::size_t count_busy(const SchedulerStatus& status) {
    std::size_t n = 0;
    for (const auto& slot : status.slots) n += slot.job.empty() ? 0 : 1;
    return n;
}

Out to_json(const SchedulerStatus::Slot& slot) {
    Out json = {{"phase", name_of(slot.phase)}, {"tokens", slot.n_tokens}, {"kv_bytes", slot.bytes}};
    if (slot.job.empty()) return json;
    json["request"] = slot.job;
    json["prompt_tokens"] = slot.n_prompt;
    json["cached_tokens"] = slot.n_cached;
    if (slot.phase == SchedulerStatus::Slot::Phase::prefill && slot.n_prompt > 0) {
        json["prefill_progress"] = static_cast<double>(slot.n_tokens) / static_cast<double>(slot.n_prompt);
    }
    return json;
}

}  // namespace

void Service::Impl::get_page(Call& call) {
    respond(call, 200, "text/html; charset=utf-8", std::string(web_page()));
}

void Service::Impl::get_health(Call& call) {
    if (!is_open) return respond(call, 503, kJson, R"({"status":"loading"})");
    const Model& m = loaded();
    const Health health = m.scheduler.health();
    respond(call, health == Health::ok ? 200 : 503, kJson,
            dump({{"status", name_of(health)},
                  {"model", m.engine.info().name},
                  {"queue", m.scheduler.n_queued()},
                  {"busy", m.scheduler.is_busy()}}));
}

void Service::Impl::get_metrics(Call& call) {
    Metrics::Gauges gauges;
    gauges.n_connections = n_connections();
    if (is_open) {
        const SchedulerStatus status = loaded().scheduler.status();
        gauges.n_queued = status.n_queued;
        gauges.n_busy_slots = count_busy(status);
        gauges.kv_bytes = status.kv_bytes;
        gauges.n_parked = status.n_parked;
        gauges.disk = status.disk;
    }
    respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", metrics.text(gauges));
}

void Service::Impl::get_status(Call& call) {
    Out json = {{"state", is_open ? "ready" : "loading"},
                {"uptime_seconds", unix_time() - start_time},
                {"connections", n_connections()}};
    if (is_open) {
        const Model& m = loaded();
        const SchedulerStatus status = m.scheduler.status();
        const Health health = m.scheduler.health();
        if (health != Health::ok) json["state"] = name_of(health);
        json["model"] = m.engine.info().name;
        json["backend"] = m.engine.backend_description();
        json["context"] = m.context;
        json["queue"] = {{"waiting", status.n_queued}, {"limit", options.scheduler.max_queue}};
        json["slots"] = Out::array();
        for (const auto& slot : status.slots) json["slots"].push_back(to_json(slot));
        const Metrics::Totals totals = metrics.totals();
        json["cache"] = {{"prompt_tokens", totals.prompt_tokens},
                         {"cached_tokens", totals.cached_tokens},
                         {"kv_bytes", status.kv_bytes},
                         {"parked", status.n_parked}};
        if (!options.kv_directory.empty()) {
            json["cache"]["disk"] = {{"files", status.disk.n_files},
                                     {"bytes", status.disk.n_bytes},
                                     {"limit_bytes", options.kv_disk_bytes},
                                     {"written_bytes", status.disk.bytes_written},
                                     {"waiting", status.disk.n_waiting}};
        }
    }
    respond(call, 200, kJson, dump(json));
}

void Service::Impl::get_models(Call& call) {
    const bool is_anthropic = !call.request.header("anthropic-version").empty();
    respond(call, 200, kJson, model_list({loaded().context, start_time}, is_anthropic));
}

void Service::Impl::get_model(Call& call) {
    const bool is_anthropic = !call.request.header("anthropic-version").empty();
    const std::string id = call.route.substr(std::string_view("/models/").size());
    respond(call, 200, kJson, model_object({loaded().context, start_time}, id, is_anthropic));
}

void Service::Impl::post_count_tokens(Call& call) {
    const chat::Json body = parse_body(call.request.body);
    GenerationRequest request = parse_count_tokens(body);
    const auto tokens = chat::to_tokens(render(request), loaded().engine.tokenizer());
    respond(call, 200, kJson, dump({{"input_tokens", tokens.size()}}));
}

// A text, or messages as /v1/chat/completions takes them.
void Service::Impl::post_tokenize(Call& call) {
    const chat::Json json = parse_body(call.request.body);
    const Field body = Field::body(json);
    const tokenizer::Tokenizer& tokenizer = loaded().engine.tokenizer();
    std::vector<TokenId> ids;
    if (body["messages"]) {
        Exchange exchange = parse_chat_completions(json);
        ids = chat::to_tokens(render(exchange.request), tokenizer);
    } else {
        const Field text = body["content"] ? body["content"] : body["prompt"] ? body["prompt"] : body["text"];
        if (!text) throw invalid_field("content", "is required (or messages)");
        const bool has_control_tokens = body["parse_special"].boolean_or(false);
        ids =
            has_control_tokens ? tokenizer.encode_with_added(text.string()) : tokenizer.encode(text.string());
    }
    respond(call, 200, kJson,
            dump({{"tokens", ids}, {"count", ids.size()}, {"max_model_len", loaded().context}}));
}

void Service::Impl::post_detokenize(Call& call) {
    const chat::Json json = parse_body(call.request.body);
    const tokenizer::Tokenizer& tokenizer = loaded().engine.tokenizer();
    const Field tokens = Field::body(json)["tokens"];
    if (!tokens) throw invalid_field("tokens", "is required");
    std::string text;
    for (const Field& item : tokens.items()) {
        const std::int64_t id = item.integer();
        if (id < 0 || id >= tokenizer.size()) {
            item.fail("is outside the vocabulary of " + std::to_string(tokenizer.size()));
        }
        text += tokenizer.bytes(static_cast<TokenId>(id));
    }
    respond(call, 200, kJson, dump({{"content", text}, {"prompt", text}}));
}

}  // namespace ds4::server
