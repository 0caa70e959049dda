#include "server/http_connection.h"

#include <poll.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

namespace ds4::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using ErrorCode = boost::system::error_code;

namespace {

using Parser = http::request_parser<http::string_body>;

// How long, and for how much, a client may go on talking after an answer that ends the connection.
constexpr std::chrono::seconds kLinger{5};
constexpr std::size_t kLingerBytes = std::size_t{256} << 20;

auto result_in(ErrorCode& error) {
    return asio::redirect_error(asio::use_awaitable, error);
}

bool is_departure(const ErrorCode& error) {
    return error == http::error::end_of_stream || error == asio::error::eof ||
           error == asio::error::connection_reset || error == asio::error::operation_aborted ||
           error == http::error::partial_message || error == asio::error::bad_descriptor ||
           error == beast::error::timeout;  // by then Beast has closed the socket
}

ApiError parse_error(const ErrorCode& error, const HttpOptions& options) {
    if (error == http::error::header_limit) {
        return {ErrorKind::header_too_large,
                "Request header exceeds " + std::to_string(options.max_header_bytes) + " bytes"};
    }
    if (error == http::error::body_limit) {
        return {ErrorKind::body_too_large,
                "Request body exceeds " + std::to_string(options.max_body_bytes) + " bytes"};
    }
    return {ErrorKind::invalid_request, "Not a valid HTTP request: " + error.message()};
}

// What Beast's parser lets through and a proxy in front might read in another way.
std::optional<ApiError> framing_error(const Parser::value_type& message) {
    const auto encoding = message.find(http::field::transfer_encoding);
    if (encoding == message.end()) return std::nullopt;
    const bool is_plain_chunked = beast::iequals(encoding->value(), "chunked") &&
                                  message.count(http::field::transfer_encoding) == 1 &&
                                  message.version() == 11;
    if (is_plain_chunked && message.count(http::field::content_length) == 0) return std::nullopt;
    return ApiError(ErrorKind::invalid_request,
                    "Only 'Transfer-Encoding: chunked' without Content-Length is supported");
}

HttpRequest to_request(Parser::value_type& message) {
    HttpRequest request;
    request.method = message.method_string().to_string();
    const auto target = message.target();
    request.path = target.substr(0, target.find('?')).to_string();
    for (const auto& field : message) {
        request.headers.emplace_back(field.name_string().to_string(), field.value().to_string());
    }
    request.body = std::move(message.body());
    return request;
}

}  // namespace

HttpConnection::HttpConnection(Socket socket, const HttpOptions& options, const HttpServer::Handler& handler,
                               const HttpServer::Refusal& refusal)
    : stream_(std::move(socket)),
      data_to_send_(stream_.get_executor()),
      options_(options),
      handler_(handler),
      refusal_(refusal) {
    ErrorCode ignored;
    stream_.socket().non_blocking(true, ignored);
    // Never due: it is only waited for to be cancelled.
    data_to_send_.expires_at(asio::steady_timer::time_point::max());
}

asio::awaitable<void> HttpConnection::run() {
    bool is_open = true;
    while (is_open && !is_finishing_) {
        Incoming incoming = co_await read_request();
        if (incoming.is_gone) break;
        const auto reply = make_reply(incoming);
        if (incoming.error) {
            reply->send(refusal_(incoming.request, *incoming.error));
        } else {
            handler_(std::move(incoming.request), reply);
        }
        is_replying_ = true;
        const bool was_answered = co_await write_reply(*reply);
        is_replying_ = false;
        is_open = was_answered && incoming.keeps_alive;
        reply->close();
        if (incoming.error) co_await linger();
        is_idle_ = true;
    }
    close();
}

asio::awaitable<void> HttpConnection::refuse() {
    Incoming incoming;
    const auto reply = make_reply(incoming);
    reply->send(
        refusal_(incoming.request, {ErrorKind::unavailable, "Too many connections. Try again later."}));
    co_await send(reply->take().bytes);
    co_await linger();
    close();
}

asio::awaitable<HttpConnection::Incoming> HttpConnection::read_request() {
    Incoming incoming;
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(options_.max_header_bytes));
    parser.body_limit(options_.max_body_bytes);
    ErrorCode error;

    // The clock of the headers starts with their first byte, so that an idle connection may stay longer.
    if (buffer_.size() == 0) {
        stream_.expires_after(options_.idle_timeout);
        const std::size_t n = co_await stream_.async_read_some(buffer_.prepare(4096), result_in(error));
        buffer_.commit(n);
        if (error) {
            incoming.is_gone = true;
            co_return incoming;
        }
    }
    is_idle_ = false;
    stream_.expires_after(options_.header_timeout);
    co_await http::async_read_header(stream_, buffer_, parser, result_in(error));
    if (!error) {
        incoming.keeps_alive = parser.get().keep_alive();
        incoming.is_http_1_1 = parser.get().version() == 11;
        incoming.error = framing_error(parser.get());
        const auto expect = parser.get().find(http::field::expect);
        if (!incoming.error && expect != parser.get().end() &&
            beast::iequals(expect->value(), "100-continue")) {
            co_await send("HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
    while (!error && !incoming.error && !parser.is_done()) {
        stream_.expires_after(options_.body_timeout);
        co_await http::async_read_some(stream_, buffer_, parser, result_in(error));
    }
    incoming.request = to_request(parser.get());
    if (error) {
        incoming.is_gone = is_departure(error);
        incoming.error = parse_error(error, options_);
    }
    if (incoming.error) incoming.keeps_alive = false;
    co_return incoming;
}

std::shared_ptr<ReplyBuffer> HttpConnection::make_reply(const Incoming& incoming) {
    ReplyBuffer::Protocol protocol;
    protocol.is_head = incoming.request.method == "HEAD";
    protocol.is_chunked = incoming.is_http_1_1;
    protocol.keeps_alive = incoming.keeps_alive && !is_finishing_;
    return std::make_shared<ReplyBuffer>(protocol, options_.max_unsent_bytes, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) {
            asio::post(self->stream_.get_executor(), [self] { self->wake(); });
        }
    });
}

void HttpConnection::wake() {
    data_to_send_.cancel();
}

asio::awaitable<bool> HttpConnection::write_reply(ReplyBuffer& reply) {
    while (true) {
        const ReplyBuffer::Piece piece = reply.take();
        if (piece.is_abort) {
            close();
            co_return false;
        }
        if (!piece.bytes.empty()) {
            const bool was_sent = co_await send(piece.bytes);
            if (!was_sent) co_return false;
        }
        if (piece.is_last) co_return true;
        if (!piece.bytes.empty()) continue;
        // Woken by the handler, or by look() when the client has gone.
        ErrorCode woken;
        co_await data_to_send_.async_wait(result_in(woken));
        if (has_left_) co_return false;
    }
}

asio::awaitable<bool> HttpConnection::send(const std::string& bytes) {
    // Almost always the socket takes everything at once, and a token costs no timer.
    ErrorCode error;
    std::size_t sent = stream_.socket().send(asio::buffer(bytes), 0, error);
    if (error == asio::error::would_block) error.clear();
    while (!error && sent < bytes.size()) {
        stream_.expires_after(options_.write_timeout);
        sent += co_await stream_.async_write_some(asio::buffer(bytes.data() + sent, bytes.size() - sent),
                                                  result_in(error));
    }
    co_return !error;
}

asio::awaitable<void> HttpConnection::linger() {
    ErrorCode error;
    stream_.socket().shutdown(Socket::shutdown_send, error);
    stream_.expires_after(kLinger);
    std::string sink(std::size_t{64} << 10, '\0');
    for (std::size_t total = 0; !error && total < kLingerBytes;) {
        total += co_await stream_.async_read_some(asio::buffer(sink), result_in(error));
    }
}

void HttpConnection::look() {
    if (!is_replying_ || !client_has_left()) return;
    has_left_ = true;
    wake();
}

bool HttpConnection::client_has_left() {
    pollfd status{stream_.socket().native_handle(), POLLRDHUP, 0};
    return ::poll(&status, 1, 0) > 0 && (status.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

void HttpConnection::finish() {
    is_finishing_ = true;
    if (is_idle_) close();
}

void HttpConnection::close() {
    ErrorCode ignored;
    stream_.socket().shutdown(Socket::shutdown_both, ignored);
    stream_.close();
}

}  // namespace ds4::server
