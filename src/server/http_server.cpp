#include <sys/stat.h>

// clang-format off: Boost 1.74's awaitable.hpp leaves this one to its user.
#include <utility>
// clang-format on

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/string.hpp>
#include <future>
#include <set>
#include <thread>

#include "server/http.h"
#include "server/http_connection.h"

namespace ds4::server {

namespace asio = boost::asio;
using asio::ip::tcp;
using Local = asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

namespace {

tcp::acceptor listen_tcp(asio::io_context& io, const HttpOptions& options) {
    const std::string where = options.host + " port " + std::to_string(options.port);
    ErrorCode error;
    tcp::resolver resolver(io);
    const auto addresses =
        resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
    if (error)
        throw IoError("--host " + options.host + ": " + error.message() +
                      "; give a name or address of this machine");
    tcp::acceptor acceptor(io);
    const tcp::endpoint endpoint = addresses.begin()->endpoint();
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
        throw IoError("cannot listen on " + where + ": " + error.message() + "; choose another --port");
    return acceptor;
}

// A socket that nobody listens on is what a crashed server leaves behind; it may go.
void remove_stale_socket(asio::io_context& io, const std::filesystem::path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return;
    if (!S_ISSOCK(status.st_mode))
        throw IoError(path.string() + ": exists and is not a socket; choose another path");
    Local::socket probe(io);
    ErrorCode error;
    probe.connect(Local::endpoint(path.string()), error);
    if (!error) throw IoError(path.string() + ": another server listens there; choose another path");
    std::filesystem::remove(path);
}

Local::acceptor listen_local(asio::io_context& io, const std::filesystem::path& path) {
    remove_stale_socket(io, path);
    Local::acceptor acceptor(io);
    ErrorCode error;
    // Whoever may open the socket may use the model: only its owner.
    const mode_t mask = ::umask(0177);
    try {
        acceptor.open();
        acceptor.bind(Local::endpoint(path.string()), error);
    } catch (const boost::system::system_error& failure) {
        error = failure.code();
    }
    ::umask(mask);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) throw IoError("cannot listen on " + path.string() + ": " + error.message());
    return acceptor;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
        if (boost::beast::iequals(boost::beast::string_view(key.data(), key.size()),
                                  boost::beast::string_view(name.data(), name.size()))) {
            return value;
        }
    }
    return {};
}

struct HttpServer::Impl {
    Impl(HttpOptions o, Handler h, Refusal r)
        : options(std::move(o)), handler(std::move(h)), refusal(std::move(r)) {
        if (options.unix_socket.empty() || options.listen_tcp) {
            tcp_acceptor.emplace(listen_tcp(io, options));
            port = tcp_acceptor->local_endpoint().port();
        }
        if (!options.unix_socket.empty()) local_acceptor.emplace(listen_local(io, options.unix_socket));
        if (tcp_acceptor) spawn(accept(*tcp_acceptor));
        if (local_acceptor) spawn(accept(*local_acceptor));
        spawn(look_for_clients());
        thread = std::thread([this] { io.run(); });
    }

    void spawn(asio::awaitable<void> task) { asio::co_spawn(io, std::move(task), asio::detached); }

    template <class Acceptor>
    asio::awaitable<void> accept(Acceptor& acceptor);
    // One timer for all connections: a timer of its own would cost each token of a stream some system calls.
    asio::awaitable<void> look_for_clients();
    // Holds the connection while it lives.
    asio::awaitable<void> serve(std::shared_ptr<HttpConnection> connection, bool is_one_too_many);
    void stop(std::chrono::milliseconds grace);
    // Runs on the network's thread and waits for it.
    void on_network(const std::function<void()>& action);

    const HttpOptions options;
    const Handler handler;
    const Refusal refusal;

    asio::io_context io{1};
    asio::executor_work_guard<asio::io_context::executor_type> stays_up = asio::make_work_guard(io);
    std::optional<tcp::acceptor> tcp_acceptor;
    std::optional<Local::acceptor> local_acceptor;
    std::uint16_t port = 0;
    std::set<std::shared_ptr<HttpConnection>> connections;  // of the network's thread
    std::atomic<std::size_t> n_connections{0};
    std::thread thread;
};

template <class Acceptor>
asio::awaitable<void> HttpServer::Impl::accept(Acceptor& acceptor) {
    while (acceptor.is_open()) {
        ErrorCode error;
        auto socket = co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            // Out of file descriptors, mostly: the next attempt waits so that the others get to close some.
            asio::steady_timer pause(io, std::chrono::milliseconds(50));
            if (acceptor.is_open())
                co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        if constexpr (std::is_same_v<Acceptor, tcp::acceptor>) socket.set_option(tcp::no_delay(true), error);
        auto connection = std::make_shared<HttpConnection>(HttpConnection::Socket(std::move(socket)), options,
                                                           handler, refusal);
        const bool is_one_too_many = connections.size() >= options.max_connections;
        spawn(serve(std::move(connection), is_one_too_many));
    }
}

asio::awaitable<void> HttpServer::Impl::look_for_clients() {
    asio::steady_timer timer(io);
    while (true) {
        timer.expires_after(options.presence_interval);
        co_await timer.async_wait(asio::use_awaitable);
        for (const auto& connection : connections) connection->look();
    }
}

asio::awaitable<void> HttpServer::Impl::serve(std::shared_ptr<HttpConnection> connection,
                                              bool is_one_too_many) {
    if (!is_one_too_many) connections.insert(connection);
    n_connections = connections.size();
    try {
        if (is_one_too_many) {
            co_await connection->refuse();
        } else {
            co_await connection->run();
        }
    } catch (const std::exception&) {
        connection->close();  // out of memory, say: this client's loss only
    }
    connections.erase(connection);
    n_connections = connections.size();
}

void HttpServer::Impl::on_network(const std::function<void()>& action) {
    std::promise<void> done;
    asio::post(io, [&] {
        action();
        done.set_value();
    });
    done.get_future().wait();
}

void HttpServer::Impl::stop(std::chrono::milliseconds grace) {
    if (!thread.joinable()) return;
    on_network([this] {
        ErrorCode ignored;
        if (tcp_acceptor) tcp_acceptor->close(ignored);
        if (local_acceptor) local_acceptor->close(ignored);
        for (const auto& connection : connections) connection->finish();
    });
    const auto deadline = std::chrono::steady_clock::now() + grace;
    while (n_connections > 0 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    on_network([this] {
        for (const auto& connection : connections) connection->close();
    });
    // Closed connections end by themselves: their next operation fails.
    while (n_connections > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    io.stop();
    thread.join();
    if (!options.unix_socket.empty()) {
        std::error_code ignored;
        std::filesystem::remove(options.unix_socket, ignored);
    }
}

HttpServer::HttpServer(HttpOptions options, Handler handler, Refusal refusal)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handler), std::move(refusal))) {}

HttpServer::~HttpServer() {
    stop(std::chrono::milliseconds(0));
}

std::uint16_t HttpServer::port() const {
    return impl_->port;
}
std::size_t HttpServer::n_connections() const {
    return impl_->n_connections;
}
void HttpServer::stop(std::chrono::milliseconds grace) {
    impl_->stop(grace);
}

}  // namespace ds4::server
