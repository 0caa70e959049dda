#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <list>
#include <mutex>
#include <string_view>
#include <thread>

#include "chat/tool_memory.h"
#include "server/generation_job.h"
#include "server/metrics.h"
#include "server/service.h"
#include "server/trace.h"

namespace ds4::server {

struct Service::Impl {
    using Clock = std::chrono::steady_clock;

    // A request on its way.
    struct Call {
        std::string id;
        std::string route;  // the path without the prefixes that mean nothing, e.g. "/chat/completions"
        std::string label = "other";  // of a known route, for metrics: clients must not make up new ones
        Dialect dialect = Dialect::openai;
        Clock::time_point arrival;
        HttpRequest request;
        std::shared_ptr<HttpReply> reply;
    };
    // What exists once the engine does.
    struct Model {
        Model(Engine& e, const JobContext& job_context, std::unique_ptr<kv::DiskCache> disk,
              const CheckpointPolicy& policy,
              std::function<std::vector<kv::ToolMapEntry>(std::string_view)> tool_map,
              const SchedulerOptions& scheduling, std::function<void(const StepReport&)> on_step,
              chat::EffortScheme scheme)
            : engine(e),
              jobs(job_context),
              checkpointer(policy, std::move(disk), e.tokenizer(), std::move(tool_map)),
              scheduler(e, scheduling, checkpointer, std::move(on_step)),
              context(scheduling.context),
              effort_scheme(scheme) {}

        Engine& engine;
        JobContext jobs;
        Checkpointer checkpointer;
        Scheduler scheduler;
        std::int64_t context;
        chat::EffortScheme effort_scheme;
    };

    explicit Impl(ServiceOptions o);
    ~Impl();

    // ---- service.cpp: the way to an endpoint ----
    Call make_call(HttpRequest request, std::shared_ptr<HttpReply> reply) const;
    void handle(Call& call);  // may take it away, to a worker
    void check_access(const Call& call) const;
    void run(Call& call, void (Impl::*endpoint)(Call&));
    void respond(const Call& call, int status, std::string_view type, std::string body);
    void respond_error(const Call& call, const ApiError& error);
    HttpResponse error_response(const Call& call, const ApiError& error) const;
    Headers common_headers(const Call& call) const;
    void open(Engine& engine);
    std::unique_ptr<kv::DiskCache> open_disk(Engine& engine, std::int64_t context);
    Model& loaded() const;  // throws ApiError while there is no model

    // ---- service_endpoints.cpp: what only looks ----
    void get_page(Call& call);
    void get_health(Call& call);
    void get_metrics(Call& call);
    void get_status(Call& call);
    void get_models(Call& call);
    void get_model(Call& call);
    void post_count_tokens(Call& call);
    void post_tokenize(Call& call);
    void post_detokenize(Call& call);

    // ---- service_generation.cpp: what generates ----
    void post_chat_completions(Call& call);
    void post_completions(Call& call);
    void post_responses(Call& call);
    void post_messages(Call& call);
    void generate(Call& call, Exchange exchange);
    chat::Prompt render(GenerationRequest& request);
    void keep_streams_alive();

    const ServiceOptions options;
    const std::int64_t start_time;  // unix seconds
    std::unique_ptr<Trace> trace;
    Metrics metrics;
    chat::ToolMemory tool_memory;
    std::function<std::size_t()> n_connections = [] { return std::size_t{0}; };

    std::atomic<bool> is_open{false};  // model is set, for good
    std::unique_ptr<Model> model;

    std::mutex streams_mutex;
    std::condition_variable streams_changed;
    std::list<std::weak_ptr<GenerationJob>> streams;
    bool is_closing = false;
    std::thread keepalive_thread;

    // Parsing, rendering and tokenizing: off the network's thread and beside the model's.
    boost::asio::thread_pool workers{2};
};

// ApiError for what a client did wrong, whatever it was thrown as.
ApiError as_api_error(const std::exception& error);

}  // namespace ds4::server
