#pragma once

// clang-format off: Boost 1.74's awaitable.hpp leaves this one to its user.
#include <utility>
// clang-format on

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <optional>

#include "server/http_reply.h"

namespace ds4::server {

// One connection from accept to close; whoever spawns its coroutines holds it meanwhile. Everything runs on
// the network's only thread; what other threads do goes through ReplyBuffer.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
  public:
    using Socket = boost::asio::generic::stream_protocol::socket;

    HttpConnection(Socket socket, const HttpOptions& options, const HttpServer::Handler& handler,
                   const HttpServer::Refusal& refusal);

    // Serves requests until either side has had enough.
    boost::asio::awaitable<void> run();
    // Says 503 and closes: there are too many others.
    boost::asio::awaitable<void> refuse();

    // Notices a client that has gone while his answer is made. Called every now and then.
    void look();
    // Closes between requests, at once if there is none in progress.
    void finish();
    void close();

  private:
    using Stream = boost::beast::basic_stream<boost::asio::generic::stream_protocol>;
    struct Incoming {
        HttpRequest request;
        bool keeps_alive = false;
        bool is_http_1_1 = false;
        std::optional<ApiError> error;  // refuse it with this, and close
        bool is_gone = false;           // nobody is there any more
    };

    boost::asio::awaitable<Incoming> read_request();
    // Sends what the handler gives until the answer is complete. Returns false if the connection is of no
    // more use.
    boost::asio::awaitable<bool> write_reply(ReplyBuffer& reply);
    boost::asio::awaitable<bool> send(const std::string& bytes);
    // Lets a client that still talks read our answer before the socket closes under it.
    boost::asio::awaitable<void> linger();
    std::shared_ptr<ReplyBuffer> make_reply(const Incoming& incoming);
    bool client_has_left();
    void wake();

    Stream stream_;
    boost::beast::flat_buffer buffer_;
    boost::asio::steady_timer data_to_send_;  // cancelled to wake who waits for it
    const HttpOptions& options_;
    const HttpServer::Handler& handler_;
    const HttpServer::Refusal& refusal_;
    bool is_idle_ = true;  // between requests
    bool is_finishing_ = false;
    bool is_replying_ = false;  // between a request and the end of its answer
    bool has_left_ = false;     // the client, meanwhile
};

}  // namespace ds4::server
