#include "server/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace ds4::test {
namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return char(std::tolower(c)); });
    return text;
}

int connect_or_throw(int family, const sockaddr* address, socklen_t size) {
    const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ::connect(fd, address, size) != 0) throw std::runtime_error("cannot connect");
    return fd;
}

}  // namespace

HttpClient::HttpClient(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd_ = connect_or_throw(AF_INET, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

HttpClient::HttpClient(const std::string& unix_socket) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, unix_socket.c_str(),
                std::min(unix_socket.size(), sizeof address.sun_path - 1));
    fd_ = connect_or_throw(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

HttpClient::~HttpClient() {
    close();
}

void HttpClient::close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

void HttpClient::reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
}

bool HttpClient::write(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

void HttpClient::request(std::string_view method, std::string_view path, std::string_view body,
                         std::string_view more_headers) {
    std::string text;
    text.append(method)
        .append(" ")
        .append(path)
        .append(" HTTP/1.1\r\nHost: localhost\r\n")
        .append(more_headers);
    if (!body.empty() || method == "POST") text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    text.append("\r\n").append(body);
    write(text);
}

bool HttpClient::fill(std::chrono::milliseconds patience) {
    pollfd status{fd_, POLLIN, 0};
    if (::poll(&status, 1, static_cast<int>(patience.count())) <= 0) return false;
    std::array<char, 16384> bytes{};
    const ssize_t n = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (n <= 0) return false;
    buffer_.append(bytes.data(), static_cast<std::size_t>(n));
    return true;
}

HttpAnswer HttpClient::read_head(std::chrono::milliseconds patience) {
    HttpAnswer answer;
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
        if (!fill(patience)) return answer;
    }
    const std::string head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    answer.status = std::stoi(head.substr(head.find(' ') + 1));
    std::size_t at = head.find("\r\n") + 2;
    while (at < head.size()) {
        const std::size_t line_end = head.find("\r\n", at);
        const std::size_t colon = head.find(": ", at);
        answer.headers[lower(head.substr(at, colon - at))] = head.substr(colon + 2, line_end - colon - 2);
        at = line_end + 2;
    }
    return answer;
}

HttpAnswer HttpClient::read(std::chrono::milliseconds patience, bool is_head) {
    HttpAnswer answer = read_head(patience);
    while (answer.status == 100) answer = read_head(patience);
    if (answer.status == 0) return answer;
    if (is_head || answer.status == 204) {
        answer.is_complete = true;
    } else if (answer.headers.contains("content-length")) {
        const std::size_t n = std::stoul(answer.headers["content-length"]);
        while (buffer_.size() < n && fill(patience)) {
        }
        answer.body = buffer_.substr(0, n);
        answer.is_complete = answer.body.size() == n;
        buffer_.erase(0, answer.body.size());
    } else if (answer.headers.contains("transfer-encoding")) {
        while (true) {
            std::size_t line_end = 0;
            while ((line_end = buffer_.find("\r\n")) == std::string::npos) {
                if (!fill(patience)) return answer;
            }
            const std::size_t n = std::stoul(buffer_.substr(0, line_end), nullptr, 16);
            while (buffer_.size() < line_end + 2 + n + 2) {
                if (!fill(patience)) return answer;
            }
            answer.body += buffer_.substr(line_end + 2, n);
            buffer_.erase(0, line_end + 2 + n + 2);
            if (n == 0) break;
        }
        answer.is_complete = true;
    } else {
        while (fill(patience)) {
        }
        answer.body = std::exchange(buffer_, {});
        answer.is_complete = true;
    }
    return answer;
}

std::string HttpClient::read_some(std::chrono::milliseconds patience) {
    if (buffer_.empty()) fill(patience);
    return std::exchange(buffer_, {});
}

bool HttpClient::read_until(std::string_view text, std::chrono::milliseconds patience) {
    while (buffer_.find(text) == std::string::npos) {
        if (!fill(patience)) return false;
    }
    buffer_.erase(0, buffer_.find(text) + text.size());
    return true;
}

bool HttpClient::is_closed_within(std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd status{fd_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&status, 1, static_cast<int>(left.count())) <= 0) return false;
        std::array<char, 16384> bytes{};
        if (::recv(fd_, bytes.data(), bytes.size(), 0) <= 0) return true;
    }
}

HttpAnswer http(std::uint16_t port, std::string_view method, std::string_view path, std::string_view body,
                std::string_view more_headers) {
    HttpClient client(port);
    client.request(method, path, body, more_headers);
    return client.read(std::chrono::seconds(30), method == "HEAD");
}

}  // namespace ds4::test
