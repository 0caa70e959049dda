#include "apps/bench/http.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "ds4/error.h"

namespace ds4::bench {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

using Parser = http::response_parser<http::string_body>;

void check(const http::response<http::string_body>& response) {
    if (response.result_int() == 200) return;
    const Json json = Json::parse(response.body(), nullptr, false);
    std::string why = response.body();
    if (json.is_object() && json.contains("error") && json["error"].contains("message"))
        why = json["error"]["message"].get<std::string>();
    throw Error("the server answered " + std::to_string(response.result_int()) + ": " + why);
}

template <class Action>
void io(const Server& server, const Action& action) {
    try {
        action();
    } catch (const boost::system::system_error& error) {
        throw IoError(server.host + " port " + server.port + ": " + error.code().message());
    }
}

}  // namespace

Server parse_url(const std::string& url) {
    constexpr std::string_view scheme = "http://";
    std::string rest = url;
    if (!rest.starts_with(scheme)) throw Error("--url " + url + ": must be http://HOST[:PORT]");
    rest.erase(0, scheme.size());
    if (rest.ends_with('/')) rest.pop_back();
    const std::size_t colon = rest.find(':');
    Server server{rest.substr(0, colon), colon == std::string::npos ? "80" : rest.substr(colon + 1), ""};
    if (server.host.empty() || server.port.empty() || rest.find('/') != std::string::npos)
        throw Error("--url " + url + ": must be http://HOST[:PORT]");
    return server;
}

HttpClient::HttpClient(const Server& server) : server_(server) {
    io(server_, [&] {
        stream_.connect(tcp::resolver(io_).resolve(server_.host, server_.port));
        stream_.socket().set_option(tcp::no_delay(true));
    });
}

HttpClient::Request HttpClient::request(http::verb method, const std::string& path) const {
    Request request(method, path, 11);
    request.set(http::field::host, server_.host);
    if (!server_.key.empty()) request.set(http::field::authorization, "Bearer " + server_.key);
    return request;
}

void HttpClient::send_post(const std::string& path, const Json& body) {
    Request post = request(http::verb::post, path);
    post.set(http::field::content_type, "application/json");
    post.body() = body.dump();
    post.prepare_payload();
    http::write(stream_, post);
}

Json HttpClient::read() {
    Parser parser;
    parser.body_limit(boost::none);
    http::read(stream_, buffer_, parser);
    check(parser.get());
    return Json::parse(parser.get().body());
}

Json HttpClient::get(const std::string& path) {
    Json answer;
    io(server_, [&] {
        http::write(stream_, request(http::verb::get, path));
        answer = read();
    });
    return answer;
}

Json HttpClient::post(const std::string& path, const Json& body) {
    Json answer;
    io(server_, [&] {
        send_post(path, body);
        answer = read();
    });
    return answer;
}

void HttpClient::stream(const std::string& path, const Json& body,
                        const std::function<void(std::string_view)>& on_data) {
    io(server_, [&] {
        send_post(path, body);
        Parser parser;
        parser.body_limit(boost::none);
        http::read_header(stream_, buffer_, parser);
        const bool is_stream = parser.get().result_int() == 200;
        std::string text;
        while (!parser.is_done()) {
            http::read_some(stream_, buffer_, parser);
            if (!is_stream) continue;
            text += parser.get().body();
            parser.get().body().clear();
            constexpr std::string_view prefix = "data: ";
            std::size_t begin = 0;
            for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
                const auto line = std::string_view(text).substr(begin, end - begin);
                if (line.starts_with(prefix)) on_data(line.substr(prefix.size()));
            }
            text.erase(0, begin);
        }
        check(parser.get());
    });
}

}  // namespace ds4::bench
