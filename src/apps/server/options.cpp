#include "apps/server/options.h"

#include <boost/asio/ip/address.hpp>
#include <limits>

#include "apps/app.h"
#include "server/log.h"

namespace ds4::server_app {
namespace {

constexpr std::int64_t kMany = std::numeric_limits<std::int64_t>::max();

bool is_loopback(const std::string& host) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(host, error);
    return error ? host == "localhost" : address.is_loopback();
}

std::string read_key(const std::filesystem::path& path) {
    std::string key = app::read_text(path);
    key.erase(key.find_last_not_of(" \t\r\n") + 1);
    if (key.empty()) throw Error("--api-key-file " + path.string() + ": holds no key");
    return key;
}

void add_network_options(CLI::App& app, Options& o) {
    app.add_option("--host", o.http.host, "Address to listen on (127.0.0.1)");
    app.add_option("--port", o.http.port, "Port to listen on; 0 is any free one (8000)");
    CLI::Option* socket = app.add_option("--unix-socket", o.http.unix_socket, "Listen on this Unix socket");
    app.add_flag("!--no-tcp", o.http.listen_tcp, "Listen on the Unix socket only")->needs(socket);
    CLI::Option* key = app.add_option("--api-key", o.service.api_key, "Key that clients must send");
    app.add_option("--api-key-file", o.api_key_file,
                   "File that holds the key, which then shows in no process list")
        ->excludes(key);
    app.add_flag("--insecure", o.is_insecure, "Listen beyond this machine without a key");
    app.add_flag("--cors", o.service.cors, "Let web pages of any origin call this server");
    app.add_option("--max-body-mb", o.max_body_mb, "Largest request body in MiB (64)")
        ->check(CLI::Range(1, 4096));
    app.add_option("--max-connections", o.http.max_connections, "Most connections at a time (256)")
        ->check(CLI::Range(1, 100000));
    app.add_option("--keepalive-ms", o.keepalive_ms, "Silence after which a stream shows it is alive (4000)")
        ->check(CLI::Range(50, 3'600'000));
    app.add_option("--shutdown-timeout", o.shutdown_timeout,
                   "Seconds that running requests get at the end (10)")
        ->check(CLI::Range(0.0, 86400.0));
}

void add_model_options(CLI::App& app, Options& o) {
    o.engine.backend = BackendKind::automatic;
    app.add_option("-m,--model", o.engine.model,
                   "GGUF file (default: ./ds4flash.gguf, else the bundled model)");
    app.add_option("-c,--ctx", o.service.scheduler.context,
                   "Context of a session in tokens (32768 or the model's maximum)")
        ->check(CLI::Range(std::int64_t{2}, kMany));
    app.add_option("--parallel", o.service.scheduler.n_slots,
                   "Slots: requests answered at a time; a GPU must hold --ctx tokens for each (2)")
        ->check(CLI::Range(1, 256));
    app.add_option("--max-queue", o.service.scheduler.max_queue, "Requests that may wait; more get 429 (64)")
        ->check(CLI::Range(1, 100000));
    app::add_backend_options(app, o.engine.backend);
    app.add_option("-t,--threads", o.engine.threads, "Threads; 0 is one per core (0)")
        ->check(CLI::Range(0, 4096));
    app::add_prefill_chunk_option(app, o.engine.max_batch);
    app.add_option("--max-step-ms", o.max_step_ms, "Aim for steps no longer than this during prefill (500)")
        ->check(CLI::Range(1, 3'600'000));
}

void add_kv_options(CLI::App& app, Options& o) {
    server::ServiceOptions& service = o.service;
    server::CheckpointPolicy& policy = service.kv_policy;
    const auto tokens = CLI::Range(std::int64_t{0}, kMany);
    app.add_option("--kv-ram-mb", o.kv_ram_mb,
                   "MiB for the KV state of all conversations; 0 is a quarter of this machine's memory (0)")
        ->check(CLI::Range(0, 1 << 26));
    app.add_option("--kv-disk-dir", service.kv_directory,
                   "Keep checkpoints of conversations in this directory; they outlive the server");
    app.add_option("--kv-disk-space-mb", o.kv_disk_mb, "Most MiB there (4096)")
        ->check(CLI::Range(1, 1 << 30));
    app.add_option("--kv-cache-min-tokens", policy.min_tokens,
                   "Shorter conversations are not kept there (512)")
        ->check(tokens);
    app.add_option("--kv-cache-cold-max-tokens", policy.cold_max,
                   "Longest new prompt of which the beginning is kept; 0 is none (30000)")
        ->check(tokens);
    app.add_option("--kv-cache-continued-interval-tokens", policy.continued_interval,
                   "Tokens between checkpoints of a growing conversation; 0 is none (10000)")
        ->check(tokens);
    app.add_option("--kv-cache-boundary-trim-tokens", policy.boundary_trim,
                   "Tokens left out at the end of a new prompt's checkpoint (32)")
        ->check(tokens);
    app.add_option("--kv-cache-boundary-align-tokens", policy.boundary_align,
                   "Checkpoints lie at multiples of this; 0 is anywhere (2048)")
        ->check(tokens);
    app.add_flag("--kv-cache-reject-different-quant", service.kv_rejects_other_quant,
                 "Do not use checkpoints of routed experts with other bits");
    app.add_flag("!--disable-hidden-reasoning-reuse", service.reuses_hidden_reasoning,
                 "Compute a turn again without its reasoning if the client does not send that back");
}

void add_generation_options(CLI::App& app, Options& o) {
    server::ServiceOptions& service = o.service;
    app.add_option("-n,--tokens", service.max_tokens,
                   "Most tokens of an answer whose client says nothing; 0 is until the context is full (0)")
        ->check(CLI::Range(std::int64_t{0}, kMany));
    app.add_option("--thinking-budget", service.turn.thinking_budget,
                   "Tokens of thinking after which the answer must begin; 0 is no limit (0)")
        ->check(CLI::Range(std::int64_t{0}, kMany));
    app.add_option("--tool-call-tokens", service.turn.call_block_tokens,
                   "Most tokens of one block of tool calls (65536)")
        ->check(CLI::Range(std::int64_t{1}, kMany));
    app.add_flag("--honor-sampling", service.turn.honors_sampling,
                 "Use the client's temperature and so on while thinking, too");
    app.add_option("--effort-scheme", o.effort_scheme,
                   "What effort levels mean to the weights (the model's, else 2026-04)")
        ->check(CLI::IsMember({"2026-04", "0731"}));
    app.add_flag("--tools-first", service.tools_first,
                 "Tool schemas before the system text, which may then vary");
    app.add_flag("!--disable-exact-dsml-tool-replay", service.exact_replay,
                 "Render known tool calls anew instead of as they were sampled");
    app.add_option("--tool-memory-max-ids", service.tool_memory_ids, "Tool calls remembered (100000)")
        ->check(CLI::Range(0, 100'000'000));
}

}  // namespace

void add_options(CLI::App& app, Options& o) {
    add_model_options(app, o);
    add_network_options(app, o);
    add_kv_options(app, o);
    add_generation_options(app, o);
    app.add_option("--trace", o.service.trace, "Append prompts and answers to this file, as JSON lines");
    app.add_option("--log-level", o.log_level, "debug, info, warning, error or off (info)")
        ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}));
}

void complete(Options& o) {
    if (!o.api_key_file.empty()) o.service.api_key = read_key(o.api_key_file);
    const bool has_tcp = o.http.unix_socket.empty() || o.http.listen_tcp;
    const bool is_open = o.service.api_key.empty() && !o.is_insecure;
    if (has_tcp && is_open && !is_loopback(o.http.host)) {
        throw Error(
            "--host " + o.http.host +
            " is open to other machines; give --api-key, or --insecure if everybody there may use the model");
    }
    if (is_open) o.service.host_names = {"localhost", o.http.host};
    o.http.max_body_bytes = static_cast<std::size_t>(o.max_body_mb) << 20;
    o.service.keepalive = std::chrono::milliseconds(o.keepalive_ms);
    o.engine.plan_sessions = o.service.scheduler.n_slots;
    o.engine.plan_context = o.service.scheduler.context > 0 ? o.service.scheduler.context : 32768;
    o.service.scheduler.kv_bytes = o.kv_ram_mb << 20;
    o.service.kv_disk_bytes = o.kv_disk_mb << 20;
    o.service.scheduler.max_step = std::chrono::milliseconds(o.max_step_ms);
    if (o.effort_scheme == "2026-04") o.service.effort_scheme = chat::EffortScheme::release_2026_04;
    if (o.effort_scheme == "0731") o.service.effort_scheme = chat::EffortScheme::release_0731;
    using server::log::Level;
    server::log::set_level(o.log_level == "debug"     ? Level::debug
                           : o.log_level == "warning" ? Level::warning
                           : o.log_level == "error"   ? Level::error
                           : o.log_level == "off"     ? Level::off
                                                      : Level::info);
}

}  // namespace ds4::server_app
