// ds4-server: the model behind the APIs that coding agents speak.
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <iostream>

#include "apps/app.h"
#include "apps/server/options.h"
#include "server/log.h"

namespace {

using namespace ds4;

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

int serve(server_app::Options& o) {
    server_app::complete(o);
    o.engine.model = app::find_model(o.engine.model);

    // Watched from the start: one that comes while the model loads ends the server right after.
    boost::asio::io_context signals_io;
    boost::asio::signal_set signals(signals_io, SIGINT, SIGTERM);
    signals.async_wait([](const boost::system::error_code&, int) {});

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
    signals.clear();  // a second one kills
    server::log::info("shutting down", {{"timeout_s", o.shutdown_timeout}});
    const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(o.shutdown_timeout * 1000));
    service.stop(timeout);
    http.stop(std::chrono::seconds(1));
    server::log::info("stopped");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Serves DeepSeek V4 Flash to OpenAI, Responses and Anthropic clients", "ds4-server");
    server_app::Options options;
    server_app::add_options(app, options);
    return app::main_with(app, argc, argv, [&] { return serve(options); });
}
