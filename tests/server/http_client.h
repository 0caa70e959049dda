#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

// A blocking HTTP client that shows what is on the wire and can misbehave on purpose.
namespace ds4::test {

struct HttpAnswer {
    int status = 0;                              // 0: the connection ended before a status line
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
    bool is_complete = false;  // the body ended as the headers promise
};

class HttpClient {
  public:
    explicit HttpClient(std::uint16_t port);
    explicit HttpClient(const std::string& unix_socket);
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    // False if the server has closed the connection.
    bool write(std::string_view bytes);
    void request(std::string_view method, std::string_view path, std::string_view body = "",
                 std::string_view more_headers = "");
    // The next answer. Waits at most this long for each piece of it.
    HttpAnswer read(std::chrono::milliseconds patience = std::chrono::seconds(20), bool is_head = false);
    // Status and headers only; the body follows with read_some().
    HttpAnswer read_head(std::chrono::milliseconds patience = std::chrono::seconds(20));
    // What has arrived of a body, as it stands on the wire; empty at the end or when patience is over.
    std::string read_some(std::chrono::milliseconds patience = std::chrono::seconds(20));
    // Reads until `text` was seen since the last call of read_*(); false if it did not come.
    bool read_until(std::string_view text, std::chrono::milliseconds patience = std::chrono::seconds(20));
    // True if the server closes the connection in time; what comes before is thrown away.
    bool is_closed_within(std::chrono::milliseconds patience);

    void close();
    // As a crashed client does: a reset instead of a farewell.
    void reset();

  private:
    bool fill(std::chrono::milliseconds patience);

    int fd_ = -1;
    std::string buffer_;  // read and not yet used
};

// One request on a connection of its own.
HttpAnswer http(std::uint16_t port, std::string_view method, std::string_view path,
                std::string_view body = "", std::string_view more_headers = "");

}  // namespace ds4::test
