#include "apps/server/serve.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <iostream>

#include "apps/app.h"
#include "apps/server/options.h"
#include "apps/start_anew.h"
#include "server/log.h"

namespace ds4 {
namespace {

void print_banner(const Engine& engine, const server_app::Options& o, std::int64_t context,
                  std::uint16_t port) {
    const int n_slots = o.service.scheduler.n_slots;
    const MemoryPlan plan = engine.memory_plan(context);
    std::cerr << "model: " << o.engine.model.string() << " (" << engine.backend_description() << ")\n"
              << "memory: weights " << app::human_bytes(plan.weights) << " mapped, activations "
              << app::human_bytes(plan.activations) << ", KV state up to " << n_slots << " x "
              << app::human_bytes(plan.kv_state) << " for " << context << " tokens each; together "
              << app::human_bytes(plan.weights + plan.activations + n_slots * plan.kv_state) << '\n';
    if (port != 0) std::cerr << "listening on http://" << o.http.host << ':' << port << '\n';
    if (!o.http.unix_socket.empty()) std::cerr << "listening on unix:" << o.http.unix_socket.string() << '\n';
    std::cerr
        << "endpoints: /v1/chat/completions /v1/responses /v1/messages /v1/completions; chat page at /\n";
}

using Clock = std::chrono::steady_clock;

enum class End : std::uint8_t { told, device_lost };

// Runs until it is told to end, or until the GPU is lost; everything is closed when it returns. Throws
// DeviceLostError if that is before `settled`.
End serve(server_app::Options& o, Clock::time_point settled) {
    server_app::complete(o);
    o.engine.model = app::find_model(o.engine.model);

    // Watched from the start: one that comes while the model loads ends the server right after.
    boost::asio::io_context signals_io;
    boost::asio::signal_set signals(signals_io, SIGINT, SIGTERM);
    End end = End::device_lost;
    signals.async_wait([&](const boost::system::error_code& error, int) {
        if (!error) end = End::told;
    });
    o.service.scheduler.on_device_lost = [&] { signals_io.stop(); };

    std::unique_ptr<Engine> engine;  // outlives the service, whose sessions belong to it
    server::Service service(o.service);
    server::HttpServer http(
        o.http,
        [&](server::HttpRequest request, std::shared_ptr<server::HttpReply> reply) {
            service.handle(std::move(request), std::move(reply));
        },
        [&](const server::HttpRequest& request, const server::ApiError& why) {
            return service.refuse(request, why);
        });
    service.set_connection_count([&] { return http.n_connections(); });

    engine = Engine::open(o.engine);
    service.open(*engine);
    print_banner(*engine, o, service.context(), http.port());

    signals_io.run();
    const bool is_too_soon = Clock::now() < settled;
    if (end == End::told) {
        signals.clear();  // a second one kills
        server::log::info("shutting down", {{"timeout_s", o.shutdown_timeout}});
    } else if (!is_too_soon) {
        server::log::warning("the GPU is lost to this process: starting anew");
    }
    const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(o.shutdown_timeout * 1000));
    service.stop(timeout);
    http.stop(std::chrono::seconds(1));
    // Who is told to end meanwhile ends.
    signals_io.restart();
    signals_io.poll();
    server::log::info("stopped");
    if (end == End::device_lost && is_too_soon) {
        throw DeviceLostError(
            "the GPU was lost right after the start; look for what is wrong with it, then start again");
    }
    return end;
}

}  // namespace

int server_app::run(int argc, char** argv, std::chrono::milliseconds least_uptime) {
    const auto settled = Clock::now() + least_uptime;
    CLI::App app("Serves DeepSeek V4 Flash to OpenAI, Responses and Anthropic clients", "ds4-server");
    Options options;
    add_options(app, options);
    return app::main_with(app, argc, argv, [&] {
        if (serve(options, settled) == End::told) return 0;
        app::start_anew(argv);
    });
}

}  // namespace ds4
