#include "server/http_reply.h"

#include <array>
#include <boost/beast/http/status.hpp>
#include <charconv>

namespace ds4::server {

ReplyBuffer::ReplyBuffer(Protocol protocol, std::size_t max_unsent_bytes, std::function<void()> wake)
    : protocol_(protocol), max_unsent_bytes_(max_unsent_bytes), wake_(std::move(wake)) {}

std::string ReplyBuffer::head(const HttpResponse& response, bool is_stream) const {
    namespace http = boost::beast::http;
    std::string text = "HTTP/1.1 " + std::to_string(response.status) + " ";
    text += http::obsolete_reason(static_cast<http::status>(response.status)).to_string();
    text += "\r\n";
    for (const auto& [name, value] : response.headers)
        text.append(name).append(": ").append(value).append("\r\n");
    const bool has_body = response.status != 204;
    if (is_stream && protocol_.is_chunked) {
        text += "Transfer-Encoding: chunked\r\n";
    } else if (!is_stream && has_body) {
        text.append("Content-Length: ").append(std::to_string(response.body.size())).append("\r\n");
    }
    const bool keeps_alive = protocol_.keeps_alive && (!is_stream || protocol_.is_chunked);
    text.append("Connection: ").append(keeps_alive ? "keep-alive" : "close").append("\r\n\r\n");
    return text;
}

void ReplyBuffer::send(HttpResponse response) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::waiting) return;
    unsent_ = head(response, false);
    if (!protocol_.is_head) unsent_ += response.body;
    state_ = State::ended;
    wake_once();
}

void ReplyBuffer::begin(HttpResponse response) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::waiting) return;
    unsent_ = head(response, true);
    state_ = State::streaming;
    wake_once();
}

void ReplyBuffer::append_chunk(std::string_view bytes) {
    if (bytes.empty() || protocol_.is_head) return;
    if (!protocol_.is_chunked) {
        unsent_ += bytes;
        return;
    }
    std::array<char, 16> size{};
    const auto end = std::to_chars(size.data(), size.data() + size.size(), bytes.size(), 16).ptr;
    unsent_.append(size.data(), end).append("\r\n").append(bytes).append("\r\n");
}

void ReplyBuffer::write(std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::streaming) return;
    append_chunk(bytes);
    // A client that takes nothing for so long is not there; the connection's next look cuts it.
    if (unsent_.size() > max_unsent_bytes_) state_ = State::aborted;
    wake_once();
}

void ReplyBuffer::end() {
    const std::lock_guard lock(mutex_);
    if (state_ != State::streaming) return;
    if (protocol_.is_chunked && !protocol_.is_head) unsent_ += "0\r\n\r\n";
    state_ = State::ended;
    wake_once();
}

void ReplyBuffer::abort() {
    const std::lock_guard lock(mutex_);
    if (state_ != State::waiting && state_ != State::streaming) return;
    state_ = State::aborted;
    wake_once();
}

bool ReplyBuffer::is_closed() const {
    const std::lock_guard lock(mutex_);
    return state_ == State::closed;
}

void ReplyBuffer::on_close(std::function<void()> callback) {
    {
        const std::lock_guard lock(mutex_);
        if (state_ != State::closed) {
            on_close_ = std::move(callback);
            return;
        }
    }
    callback();
}

ReplyBuffer::Piece ReplyBuffer::take() {
    const std::lock_guard lock(mutex_);
    is_woken_ = false;
    return {std::exchange(unsent_, {}), state_ == State::ended, state_ == State::aborted};
}

void ReplyBuffer::close() {
    std::function<void()> callback;
    {
        const std::lock_guard lock(mutex_);
        callback = std::exchange(on_close_, nullptr);
        // An answer that was complete before the client left needs nobody's attention.
        if (state_ == State::closed || state_ == State::ended) callback = nullptr;
        state_ = State::closed;
        unsent_.clear();
    }
    if (callback) callback();
}

void ReplyBuffer::wake_once() {
    if (std::exchange(is_woken_, true)) return;
    wake_();
}

}  // namespace ds4::server
