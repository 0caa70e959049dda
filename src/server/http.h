#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api_error.h"

// HTTP/1.1 over TCP and Unix sockets (api.md 1). Knows nothing of models or dialects. Boost.Beast inside,
// which nothing outside http_*.cpp sees.
namespace ds4::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
    std::string method;
    std::string path;  // without the query
    Headers headers;
    std::string body;

    // Of the first header of this name, in any case; empty if there is none.
    std::string_view header(std::string_view name) const;
};

struct HttpResponse {
    int status = 200;
    Headers headers;
    std::string body;
};

// Where the answer to one request goes. Every method may be called from any thread; what comes after end(),
// abort() or the client's leaving is ignored.
class HttpReply {
  public:
    virtual ~HttpReply() = default;

    // The whole answer.
    virtual void send(HttpResponse response) = 0;
    // A stream: status and headers now, the body with write() as it comes. Each write() is flushed.
    virtual void begin(HttpResponse head) = 0;
    virtual void write(std::string_view bytes) = 0;
    virtual void end() = 0;
    // Cuts the connection so that the client sees an incomplete answer.
    virtual void abort() = 0;

    virtual bool is_closed() const = 0;
    // Calls this once, from the network's thread or at once, if the client leaves before the answer is
    // complete.
    virtual void on_close(std::function<void()> callback) = 0;
};

struct HttpOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 8000;          // 0: any free one
    std::filesystem::path unix_socket;  // empty: none. With one, TCP is only opened if `listen_tcp`
    bool listen_tcp = true;

    std::size_t max_header_bytes = std::size_t{64} << 10;
    std::size_t max_body_bytes = std::size_t{64} << 20;
    std::size_t max_connections = 256;
    std::size_t max_unsent_bytes = std::size_t{16}
                                   << 20;  // of one answer: beyond it the client counts as gone

    std::chrono::milliseconds header_timeout{
        20'000};  // from the first wait for a request's bytes to its last header
    std::chrono::milliseconds idle_timeout{75'000};    // between requests of a connection
    std::chrono::milliseconds body_timeout{30'000};    // without any progress
    std::chrono::milliseconds write_timeout{30'000};   // without any progress
    std::chrono::milliseconds presence_interval{200};  // how often a waiting client is looked for
};

class HttpServer {
  public:
    // Called on the network's thread: it must hand long work to another one.
    using Handler = std::function<void(HttpRequest, std::shared_ptr<HttpReply>)>;
    // The answer to a request that never reached the handler. `request` may be incomplete.
    using Refusal = std::function<HttpResponse(const HttpRequest& request, const ApiError& why)>;

    // Binds and listens; throws IoError naming the address.
    HttpServer(HttpOptions options, Handler handler, Refusal refusal);
    ~HttpServer();  // stop(0)
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    std::uint16_t port() const;  // 0 without TCP
    std::size_t n_connections() const;

    // No new connections and requests; answers in progress may take this long before they are cut.
    void stop(std::chrono::milliseconds grace);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ds4::server
