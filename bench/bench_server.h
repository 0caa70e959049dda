#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "server/http.h"
#include "server/log.h"
#include "server/service.h"

// The whole server in the timing program's own process, on a free port.
class BenchServer {
  public:
    explicit BenchServer(ds4::Engine& engine) : service_(ds4::server::ServiceOptions{}) {
        using namespace ds4::server;
        log::set_level(log::Level::off);
        service_.open(engine);
        HttpOptions options;
        options.port = 0;
        network_ = std::make_unique<HttpServer>(
            options,
            [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
                service_.handle(std::move(request), std::move(reply));
            },
            [this](const HttpRequest& request, const ApiError& why) {
                return service_.refuse(request, why);
            });
    }

    std::uint16_t port() const { return network_->port(); }

  private:
    ds4::server::Service service_;
    std::unique_ptr<ds4::server::HttpServer> network_;
};

inline double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}
