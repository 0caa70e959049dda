#include "server/service.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "server/ids.h"
#include "server/log.h"
#include "server/service_impl.h"

namespace ds4::server {
namespace {

constexpr int kRequestIdDigits = 24;
constexpr std::int64_t kDefaultContext = 32768;

std::size_t physical_memory() {
    return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) *
           static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}
constexpr std::string_view kJson = "application/json";

// The prefixes under which clients look for one and the same endpoint.
std::string route_of(std::string_view path) {
    for (const std::string_view prefix : {"/anthropic", "/v1"}) {
        if (path.starts_with(prefix) && path.substr(prefix.size()).starts_with('/'))
            path.remove_prefix(prefix.size());
    }
    if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    return std::string(path);
}

bool is_messages(std::string_view route) {
    return route == "/messages" || route == "/messages/count_tokens";
}

// Takes the same time wherever the first difference is.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
    unsigned difference = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const char other = b.empty() ? '\0' : b[i % b.size()];
        difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ other));
    }
    return difference == 0;
}

std::string_view key_of(const HttpRequest& request) {
    const std::string_view bearer = request.header("authorization");
    for (const std::string_view scheme : {"Bearer ", "bearer "}) {
        if (bearer.starts_with(scheme)) return bearer.substr(scheme.size());
    }
    return request.header("x-api-key");
}

// "localhost:8000" and "[::1]:8000" without the port.
std::string_view host_name(std::string_view host) {
    if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
    return host.substr(0, host.rfind(':'));
}

bool is_address(std::string_view host) {
    boost::system::error_code error;
    boost::asio::ip::make_address(std::string(host), error);
    return !error;
}

}  // namespace

ApiError as_api_error(const std::exception& error) {
    if (const auto* api = dynamic_cast<const ApiError*>(&error)) return *api;
    if (const auto* field = dynamic_cast<const chat::FieldError*>(&error)) {
        return invalid_field(field->field, field->problem);
    }
    if (dynamic_cast<const PromptError*>(&error) != nullptr)
        return {ErrorKind::invalid_request, error.what()};
    return {ErrorKind::internal, error.what()};
}

Service::Impl::Impl(ServiceOptions o)
    : options(std::move(o)), start_time(unix_time()), tool_memory(options.tool_memory_ids) {
    if (!options.trace.empty()) trace = std::make_unique<Trace>(options.trace, std::vector{options.api_key});
    keepalive_thread = std::thread([this] { keep_streams_alive(); });
}

Service::Impl::~Impl() {
    {
        const std::lock_guard lock(streams_mutex);
        is_closing = true;
    }
    streams_changed.notify_all();
    keepalive_thread.join();
    workers.join();
}

void Service::Impl::open(Engine& engine) {
    const auto scheme = options.effort_scheme.value_or(engine.info().effort_scheme == "0731"
                                                           ? chat::EffortScheme::release_0731
                                                           : chat::EffortScheme::release_2026_04);
    JobContext jobs{engine.tokenizer(), tool_memory,  metrics,
                    trace.get(),        options.turn, options.reuses_hidden_reasoning};
    SchedulerOptions scheduling = options.scheduler;
    if (scheduling.context == 0) scheduling.context = std::min(kDefaultContext, engine.info().max_context);
    if (scheduling.kv_bytes == 0) {
        scheduling.kv_bytes = std::max(physical_memory() / 4, 2 * engine.kv_bytes_for(scheduling.context));
    }
    const auto count_step = [this](const StepReport& report) { metrics.count_step(report); };
    const auto tool_map = [this](std::string_view text) {
        std::vector<kv::ToolMapEntry> entries;
        for (auto& known : tool_memory.find_in(text)) entries.push_back({std::move(known.id), *known.block});
        return entries;
    };
    model = std::make_unique<Model>(engine, jobs, open_disk(engine, scheduling.context), options.kv_policy,
                                    tool_map, scheduling, count_step, scheme);
    is_open = true;
}

std::unique_ptr<kv::DiskCache> Service::Impl::open_disk(Engine& engine, std::int64_t context) {
    if (options.kv_directory.empty()) return nullptr;
    kv::StoreOptions store;
    store.directory = options.kv_directory;
    store.max_bytes = options.kv_disk_bytes;
    store.min_tokens = options.kv_policy.min_tokens;
    store.context = context;
    store.quant_bits = static_cast<std::uint8_t>(engine.info().expert_bits);
    store.rejects_other_quant = options.kv_rejects_other_quant;
    store.now = [] { return static_cast<std::uint64_t>(unix_time()); };
    store.log = [](const std::string& line) { log::warning("kv cache", {{"message", line}}); };
    auto disk = std::make_unique<kv::DiskCache>(std::move(store), engine);
    // Prompts are rendered with the calls as they were sampled before their states are looked for.
    for (const kv::ToolMapEntry& entry : disk->tool_maps()) tool_memory.store({&entry.id, 1}, entry.block);
    return disk;
}

Service::Impl::Model& Service::Impl::loaded() const {
    if (!is_open) throw ApiError(ErrorKind::unavailable, "The model is loading. Try again later.");
    return *model;
}

// ---- routes ----

void Service::Impl::handle(Call& call) {
    struct Route {
        std::string_view method, path;
        void (Impl::*endpoint)(Call&);
        bool is_work = false;  // too long for the network's thread
    };
    static constexpr std::array<Route, 13> routes = {{
        {"GET", "/", &Impl::get_page},
        {"GET", "/health", &Impl::get_health},
        {"GET", "/metrics", &Impl::get_metrics, true},
        {"GET", "/status", &Impl::get_status},
        {"GET", "/models", &Impl::get_models},
        {"GET", "/models/", &Impl::get_model},  // and whatever follows
        {"POST", "/chat/completions", &Impl::post_chat_completions, true},
        {"POST", "/completions", &Impl::post_completions, true},
        {"POST", "/responses", &Impl::post_responses, true},
        {"POST", "/messages", &Impl::post_messages, true},
        {"POST", "/messages/count_tokens", &Impl::post_count_tokens, true},
        {"POST", "/tokenize", &Impl::post_tokenize, true},
        {"POST", "/detokenize", &Impl::post_detokenize, true},
    }};
    if (call.request.method == "OPTIONS") return respond(call, 204, "", "");
    const auto route = std::find_if(routes.begin(), routes.end(), [&](const Route& r) {
        return r.path == call.route || (r.path == "/models/" && call.route.starts_with(r.path));
    });
    if (route == routes.end()) {
        throw ApiError(ErrorKind::unknown_path, call.request.method + " " + call.request.path);
    }
    call.label = route->path == "/models/" ? "/models/{id}" : std::string(route->path);
    check_access(call);
    const bool is_right =
        call.request.method == route->method || (call.request.method == "HEAD" && route->method == "GET");
    if (!is_right) {
        ApiError error(ErrorKind::wrong_method,
                       call.request.method + " is not allowed here; use " + std::string(route->method));
        HttpResponse response = error_response(call, error);
        response.headers.emplace_back("Allow",
                                      route->method == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS");
        metrics.count_request(call.label, response.status);
        return call.reply->send(std::move(response));
    }
    if (!route->is_work) return run(call, route->endpoint);
    boost::asio::post(workers, [this, moved = std::make_shared<Call>(std::move(call)),
                                endpoint = route->endpoint] { run(*moved, endpoint); });
}

void Service::Impl::run(Call& call, void (Impl::*endpoint)(Call&)) {
    try {
        (this->*endpoint)(call);
    } catch (const std::exception& error) {
        respond_error(call, as_api_error(error));
    }
}

void Service::Impl::check_access(const Call& call) const {
    const std::string_view host = host_name(call.request.header("host"));
    const bool knows_host =
        options.host_names.empty() || host.empty() || is_address(host) ||
        std::find(options.host_names.begin(), options.host_names.end(), host) != options.host_names.end();
    if (!knows_host) {
        throw ApiError(
            ErrorKind::forbidden,
            "Host '" + std::string(host) +
                "' is not this machine's name; start ds4-server with --api-key or --insecure to allow it");
    }
    // The page has no secrets: what it asks for needs the key.
    const bool is_public = call.route == "/" || call.route == "/health" || call.request.method == "HEAD";
    if (options.api_key.empty() || is_public) return;
    if (!equal_in_constant_time(key_of(call.request), options.api_key)) {
        throw ApiError(ErrorKind::unauthorized, "Incorrect API key provided.");
    }
}

Service::Impl::Call Service::Impl::make_call(HttpRequest request, std::shared_ptr<HttpReply> reply) const {
    Call call;
    call.id = random_id("req_", kRequestIdDigits);
    call.route = route_of(request.path);
    const bool is_unknown_anthropic = !request.header("anthropic-version").empty() &&
                                      !call.route.starts_with("/chat") && call.route != "/completions" &&
                                      call.route != "/responses";
    call.dialect = is_messages(call.route) || is_unknown_anthropic ? Dialect::anthropic : Dialect::openai;
    call.arrival = Clock::now();
    call.request = std::move(request);
    call.reply = std::move(reply);
    return call;
}

// ---- responses ----

Headers Service::Impl::common_headers(const Call& call) const {
    Headers headers = {{"x-request-id", call.id}, {"request-id", call.id}};
    if (options.cors) {
        headers.emplace_back("Access-Control-Allow-Origin", "*");
        headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        headers.emplace_back("Access-Control-Allow-Headers", "*");
    }
    return headers;
}

void Service::Impl::respond(const Call& call, int status, std::string_view type, std::string body) {
    HttpResponse response{status, common_headers(call), std::move(body)};
    if (!type.empty()) response.headers.emplace_back("Content-Type", std::string(type));
    metrics.count_request(call.label, status);
    call.reply->send(std::move(response));
}

HttpResponse Service::Impl::error_response(const Call& call, const ApiError& error) const {
    ApiError shown = error;
    if (error.kind == ErrorKind::internal) {
        log::error("request failed",
                   {{"request", call.id}, {"path", call.request.path}, {"error", error.what()}});
        shown = ApiError(ErrorKind::internal, "Internal error (request " + call.id + ")");
    }
    HttpResponse response;
    response.status = http_status(error.kind);
    response.headers = common_headers(call);
    response.headers.emplace_back("Content-Type", std::string(kJson));
    const std::string wait = retry_after(error.kind);
    if (!wait.empty()) response.headers.emplace_back("Retry-After", wait);
    // The engine is deterministic: what failed inside will fail again, and SDKs would try three times.
    if (error.kind == ErrorKind::internal) response.headers.emplace_back("x-should-retry", "false");
    response.body = error_body(shown, call.dialect, call.id);
    return response;
}

void Service::Impl::respond_error(const Call& call, const ApiError& error) {
    HttpResponse response = error_response(call, error);
    log::info("refused", {{"request", call.id},
                          {"path", call.request.path},
                          {"status", response.status},
                          {"error", error_message(error, call.dialect)}});
    metrics.count_request(call.label, response.status);
    call.reply->send(std::move(response));
}

// ---- the class ----

Service::Service(ServiceOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Service::~Service() {
    stop(std::chrono::milliseconds(0));
}

void Service::open(Engine& engine) {
    impl_->open(engine);
}

std::int64_t Service::context() const {
    return impl_->is_open ? impl_->model->context : 0;
}

void Service::stop(std::chrono::milliseconds grace) {
    if (impl_->is_open) impl_->model->scheduler.stop(grace);
}

void Service::handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    Impl::Call call = impl_->make_call(std::move(request), std::move(reply));
    try {
        impl_->handle(call);
    } catch (const std::exception& error) {
        impl_->respond_error(call, as_api_error(error));
    }
}

HttpResponse Service::refuse(const HttpRequest& request, const ApiError& why) {
    const Impl::Call call = impl_->make_call(request, nullptr);
    HttpResponse response = impl_->error_response(call, why);
    log::info(
        "refused",
        {{"request", call.id}, {"path", request.path}, {"status", response.status}, {"error", why.what()}});
    impl_->metrics.count_request(call.label, response.status);
    return response;
}

void Service::set_connection_count(std::function<std::size_t()> count) {
    impl_->n_connections = std::move(count);
}

}  // namespace ds4::server
