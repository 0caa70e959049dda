#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ds4::bench {

using Json = nlohmann::json;

struct Server {
    std::string host, port;
    std::string key;  // or empty
};

// "http://HOST[:PORT]". Throws Error.
Server parse_url(const std::string& url);

// One connection that is kept for request after request, as SDKs do. Blocking; errors are IoError and, for
// answers other than 200, Error with the server's message.
class HttpClient {
  public:
    explicit HttpClient(const Server& server);

    Json get(const std::string& path);
    Json post(const std::string& path, const Json& body);
    // A streamed answer: on_data gets the text of each "data:" line as it comes.
    void stream(const std::string& path, const Json& body,
                const std::function<void(std::string_view)>& on_data);

  private:
    using Request = boost::beast::http::request<boost::beast::http::string_body>;

    Request request(boost::beast::http::verb method, const std::string& path) const;
    void send_post(const std::string& path, const Json& body);
    Json read();

    const Server server_;
    boost::asio::io_context io_;
    boost::beast::tcp_stream stream_{io_};
    boost::beast::flat_buffer buffer_;
};

}  // namespace ds4::bench
