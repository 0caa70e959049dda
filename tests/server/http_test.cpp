// The wire: framing, limits, time-outs, departures. The handler is a toy.
#include "server/http.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "server/http_client.h"
#include "temporary_directory.h"

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::HttpAnswer;
using test::HttpClient;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;

HttpOptions quick_options() {
    HttpOptions options;
    options.port = 0;
    options.header_timeout = 400ms;
    options.body_timeout = 400ms;
    options.idle_timeout = 600ms;
    options.write_timeout = 600ms;
    options.presence_interval = 20ms;
    options.max_header_bytes = 8192;
    options.max_body_bytes = 100'000;
    return options;
}

// Answers with what it got; /slow waits for release(), /stream sends parts until release(), /flood sends
// without end.
class Toy {
  public:
    explicit Toy(HttpOptions options = quick_options())
        : server(
              std::move(options),
              [this](HttpRequest request, std::shared_ptr<HttpReply> reply) { handle(request, reply); },
              [](const HttpRequest&, const ApiError& why) {
                  return HttpResponse{http_status(why.kind), {}, why.what()};
              }) {}
    ~Toy() {
        is_released = true;
        const std::lock_guard lock(mutex);
        for (std::thread& thread : threads) thread.join();
    }

    std::uint16_t port() const { return server.port(); }

    std::atomic<bool> is_released{false};
    std::atomic<int> n_closed{0}, n_handled{0};

  private:
    template <class Work>
    void start(Work work) {
        const std::lock_guard lock(mutex);
        threads.emplace_back(std::move(work));
    }

    void handle(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
        ++n_handled;
        reply->on_close([this] { ++n_closed; });
        if (request.path == "/slow") {
            start([this, reply] {
                while (!is_released) std::this_thread::sleep_for(1ms);
                reply->send({200, {}, "late"});
            });
        } else if (request.path == "/stream") {
            start([this, reply] {
                reply->begin({200, {{"Content-Type", "text/plain"}}, ""});
                for (int i = 0; !is_released; ++i) {
                    reply->write("part" + std::to_string(i) + ";");
                    std::this_thread::sleep_for(1ms);
                }
                reply->end();
            });
        } else if (request.path == "/flood") {
            start([this, reply] {
                reply->begin({200, {}, ""});
                const std::string part(65536, 'x');
                while (!is_released && !reply->is_closed()) {
                    reply->write(part);
                    std::this_thread::sleep_for(1ms);
                }
            });
        } else if (request.path == "/abort") {
            reply->begin({200, {}, ""});
            reply->write("half");
            reply->abort();
        } else {
            reply->send({200,
                         {{"X-Echo", std::string(request.header("X-ASK"))}},
                         request.method + " " + request.path + " " + request.body});
        }
    }

    std::mutex mutex;
    std::vector<std::thread> threads;

  public:
    HttpServer server;
};

template <class Condition>
bool comes_true(const Condition& condition, std::chrono::milliseconds patience = 5s) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(2ms);
    }
    return true;
}

TEST(Http, KeepsConnectionsAliveAndCutsTheQuery) {
    Toy toy;
    HttpClient client(toy.port());
    for (int i = 0; i < 3; ++i) {
        client.request("POST", "/echo?beta=true", "body" + std::to_string(i), "X-Ask: yes\r\n");
        const HttpAnswer answer = client.read();
        EXPECT_EQ(answer.status, 200);
        EXPECT_EQ(answer.body, "POST /echo body" + std::to_string(i));
        EXPECT_EQ(answer.headers.at("x-echo"), "yes");
        EXPECT_EQ(answer.headers.at("connection"), "keep-alive");
    }
    client.request("GET", "/a");
    client.request("GET", "/b");  // pipelined
    EXPECT_EQ(client.read().body, "GET /a ");
    EXPECT_EQ(client.read().body, "GET /b ");
    client.request("GET", "/", "", "Connection: close\r\n");
    EXPECT_EQ(client.read().headers.at("connection"), "close");
    EXPECT_TRUE(client.is_closed_within(2s));
    EXPECT_EQ(toy.n_closed, 0);
}

TEST(Http, HeadHasNoBodyAndHttp10Closes) {
    Toy toy;
    HttpClient client(toy.port());
    client.request("HEAD", "/x");
    const HttpAnswer head = client.read(2s, true);
    EXPECT_EQ(head.headers.at("content-length"), "8");
    client.request("GET", "/x");
    EXPECT_EQ(client.read().body, "GET /x ");
    HttpClient old(toy.port());
    old.write("GET /y HTTP/1.0\r\n\r\n");
    EXPECT_EQ(old.read().body, "GET /y ");
    EXPECT_TRUE(old.is_closed_within(2s));
}

TEST(Http, ReadsChunkedBodiesAndContinues) {
    Toy toy;
    HttpClient client(toy.port());
    client.write(
        "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
        "chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n");
    EXPECT_EQ(client.read().body, "POST /c abcde");
    client.write("POST /c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    EXPECT_EQ(client.read_head().status, 100);
    client.write("ok");
    EXPECT_EQ(client.read().body, "POST /c ok");
}

// Two readings of where a request ends are how requests are smuggled past a proxy.
TEST(Http, RefusesDoubtfulFraming) {
    Toy toy;
    const std::vector<std::string> requests = {
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
        "identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
        "chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "not http at all\r\n\r\n",
        std::string("GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 35),
    };
    for (const std::string& request : requests) {
        HttpClient client(toy.port());
        client.write(request);
        const HttpAnswer answer = client.read(3s);
        EXPECT_EQ(answer.status, 400) << request;
        EXPECT_TRUE(client.is_closed_within(2s)) << request;
    }
    EXPECT_EQ(toy.n_handled, 0);
    EXPECT_EQ(test::http(toy.port(), "GET", "/next").status, 200);
}

TEST(Http, BoundsHeadersAndBodies) {
    Toy toy;
    EXPECT_EQ(test::http(toy.port(), "GET", "/", "", "A: " + std::string(9000, 'x') + "\r\n").status, 431);
    EXPECT_EQ(test::http(toy.port(), "POST", "/", std::string(100'000, 'x')).status, 200);
    // Ten times what the sockets' buffers hold: the answer has to arrive although the client is still
    // sending.
    const HttpAnswer answer = test::http(toy.port(), "POST", "/", std::string(100'001, 'x'));
    EXPECT_EQ(answer.status, 413);
    EXPECT_EQ(answer.body, "Request body exceeds 100000 bytes");
    EXPECT_EQ(test::http(toy.port(), "POST", "/", std::string(20'000'000, 'x')).status, 413);
    HttpClient chunked(toy.port());
    chunked.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n" +
                  std::string(0x30000, 'x'));
    EXPECT_EQ(chunked.read().status, 413);
    EXPECT_EQ(test::http(toy.port(), "GET", "/next").status, 200);
}

TEST(Http, SlowClientsAreNotWaitedForWithoutEnd) {
    Toy toy;
    HttpClient silent(toy.port());
    HttpClient half_header(toy.port());
    half_header.write("GET / HTTP/1.1\r\nHos");
    HttpClient half_body(toy.port());
    half_body.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    EXPECT_TRUE(half_header.is_closed_within(5s));
    EXPECT_TRUE(half_body.is_closed_within(5s));
    EXPECT_TRUE(silent.is_closed_within(5s));
    EXPECT_EQ(toy.n_handled, 0);
}

TEST(Http, NoticesWhoLeavesWhileWaiting) {
    Toy toy;
    HttpClient client(toy.port());
    client.request("GET", "/slow");
    ASSERT_TRUE(comes_true([&] { return toy.n_handled == 1; }));
    client.close();
    EXPECT_TRUE(comes_true([&] { return toy.n_closed == 1; }, 1s));
}

TEST(Http, NoticesWhoLeavesWhileStreaming) {
    Toy toy;
    HttpClient polite(toy.port()), crashed(toy.port());
    for (HttpClient* client : {&polite, &crashed}) {
        client->request("GET", "/stream");
        ASSERT_TRUE(client->read_until("part3;"));
    }
    polite.close();
    crashed.reset();
    EXPECT_TRUE(comes_true([&] { return toy.n_closed == 2; }, 1s));
    EXPECT_TRUE(comes_true([&] { return toy.server.n_connections() == 0; }, 2s));
}

TEST(Http, DropsWhoDoesNotRead) {
    HttpOptions options = quick_options();
    options.max_unsent_bytes = std::size_t{4} << 20;
    Toy toy(options);
    HttpClient client(toy.port());
    client.request("GET", "/flood");
    EXPECT_TRUE(comes_true([&] { return toy.n_closed == 1; }));
}

TEST(Http, StreamsAreChunkedAndComplete) {
    Toy toy;
    HttpClient client(toy.port());
    client.request("GET", "/stream");
    std::thread releaser([&] {
        std::this_thread::sleep_for(30ms);
        toy.is_released = true;
    });
    const HttpAnswer answer = client.read();
    releaser.join();
    EXPECT_TRUE(answer.is_complete);
    EXPECT_TRUE(answer.body.starts_with("part0;part1;"));
    EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
    client.request("GET", "/again");
    EXPECT_EQ(client.read().body, "GET /again ");
}

TEST(Http, AbortLeavesTheAnswerIncomplete) {
    Toy toy;
    HttpClient client(toy.port());
    client.request("GET", "/abort");
    EXPECT_FALSE(client.read(2s).is_complete);
}

TEST(Http, BoundsConnections) {
    HttpOptions options = quick_options();
    options.max_connections = 2;
    Toy toy(options);
    HttpClient first(toy.port()), second(toy.port());
    for (HttpClient* client : {&first, &second}) {
        client->request("GET", "/a");
        EXPECT_EQ(client->read().status, 200);
    }
    EXPECT_EQ(test::http(toy.port(), "GET", "/").status, 503);
    first.close();
    EXPECT_TRUE(comes_true([&] { return test::http(toy.port(), "GET", "/").status == 200; }));
}

TEST(Http, ListensOnUnixSockets) {
    const TemporaryDirectory dir;
    HttpOptions options = quick_options();
    options.unix_socket = dir / "ds4.sock";
    options.listen_tcp = false;
    {
        Toy toy(options);
        EXPECT_EQ(toy.port(), 0);
        struct stat status {};
        ASSERT_EQ(::stat(options.unix_socket.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0600u);
        HttpClient client(options.unix_socket.string());
        client.request("GET", "/u");
        EXPECT_EQ(client.read().body, "GET /u ");
        EXPECT_THROW(Toy{options}, IoError);  // somebody listens there
    }
    EXPECT_FALSE(std::filesystem::exists(options.unix_socket));
    write_file(options.unix_socket.string(), "a file");
    EXPECT_THROW(Toy{options}, IoError);
    EXPECT_EQ(read_file(options.unix_socket.string()), "a file");
}

TEST(Http, ReportsAddressesItCannotHave) {
    Toy toy;
    HttpOptions options = quick_options();
    options.port = toy.port();
    EXPECT_THROW(Toy{options}, IoError);
    options = quick_options();
    options.host = "no such host";
    EXPECT_THROW(Toy{options}, IoError);
}

TEST(Http, StopLetsAnswersFinishThenCutsThem) {
    Toy toy;
    HttpClient idle(toy.port()), served(toy.port()), endless(toy.port());
    idle.request("GET", "/a");
    EXPECT_EQ(idle.read().status, 200);
    served.request("GET", "/slow");
    endless.request("GET", "/stream");
    ASSERT_TRUE(comes_true([&] { return toy.n_handled == 3; }));
    std::thread stopper([&] { toy.server.stop(300ms); });
    EXPECT_TRUE(idle.is_closed_within(2s));
    toy.is_released = true;
    EXPECT_EQ(served.read().body, "late");
    EXPECT_TRUE(endless.read().is_complete);
    stopper.join();
    EXPECT_THROW(HttpClient{toy.port()}, std::runtime_error);
}

TEST(Http, StopCutsWhatDoesNotEnd) {
    Toy toy;
    HttpClient client(toy.port());
    client.request("GET", "/stream");
    ASSERT_TRUE(client.read_until("part3;"));
    toy.server.stop(50ms);
    EXPECT_TRUE(client.is_closed_within(2s));
    EXPECT_EQ(toy.n_closed, 1);
}

TEST(Http, ManyClientsAtOnce) {
    Toy toy;
    std::atomic<int> n_right{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 16; ++i) {
        clients.emplace_back([&, i] {
            HttpClient client(toy.port());
            for (int k = 0; k < 25; ++k) {
                const std::string body = std::to_string(i * 1000 + k);
                client.request("POST", "/m", body);
                if (client.read().body == "POST /m " + body) ++n_right;
            }
        });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(n_right, 16 * 25);
}

}  // namespace
}  // namespace ds4::server
