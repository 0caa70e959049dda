#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/messages.h"
#include "ds4/engine.h"
#include "server/http.h"
#include "server/scheduler.h"
#include "server/turn.h"

namespace ds4::server {

struct ServiceOptions {
    std::string api_key;  // empty: none is asked for
    bool cors = false;
    // Names of this machine: only requests to these, and to addresses, are taken; empty: all are. Where no
    // key protects us it keeps a web page from reaching us through a name of its own that resolves to this
    // machine.
    std::vector<std::string> host_names;

    SchedulerOptions scheduler;  // context 0: 32768 or the model's maximum
    TurnOptions turn;
    std::int64_t max_tokens = 0;  // of an answer whose client names no limit; 0: until the context is full
    std::optional<chat::EffortScheme> effort_scheme;  // absent: what the model's file says
    bool tools_first = false;
    bool exact_replay = true;
    std::size_t tool_memory_ids = 100'000;
    std::filesystem::path trace;  // empty: none
    std::chrono::milliseconds keepalive{4000};

    // Conversations in memory (0 in scheduler.kv_bytes: a quarter of the machine's, at least one session's)
    // and on the disk (no directory: none).
    std::filesystem::path kv_directory;
    std::uint64_t kv_disk_bytes = std::uint64_t{4096} << 20;
    CheckpointPolicy kv_policy;
    bool kv_rejects_other_quant = false;
    bool reuses_hidden_reasoning = true;
};

// Everything behind the HTTP: routes, keys, and the way of a request from its body to the scheduler.
class Service {
  public:
    // Says "loading" until open(). Throws IoError (trace).
    explicit Service(ServiceOptions options);
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    // The engine is ready. It must outlive this. Throws ContextError, ModelError, IoError (kv_directory),
    // Error (scheduler.kv_bytes).
    void open(Engine& engine);
    std::int64_t context() const;  // tokens of a session; 0 before open()
    // Accepts no more generation; what runs and waits may take this long.
    void stop(std::chrono::milliseconds grace);

    // For HttpServer.
    void handle(HttpRequest request, std::shared_ptr<HttpReply> reply);
    HttpResponse refuse(const HttpRequest& request, const ApiError& why);
    // What /metrics and /v1/status show of the network.
    void set_connection_count(std::function<std::size_t()> count);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ds4::server
