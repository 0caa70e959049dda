#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "server/http.h"

namespace ds4::server {

// What was written and not yet sent. The connection takes it out on the network's thread.
class ReplyBuffer : public HttpReply {
  public:
    struct Protocol {
        bool is_head = false;     // HEAD: no body
        bool is_chunked = false;  // streams: HTTP/1.1; else the end of the connection ends the body
        bool keeps_alive = false;
    };

    // `wake` is called, from any thread, when there is something to take.
    ReplyBuffer(Protocol protocol, std::size_t max_unsent_bytes, std::function<void()> wake);

    void send(HttpResponse response) override;
    void begin(HttpResponse head) override;
    void write(std::string_view bytes) override;
    void end() override;
    void abort() override;
    bool is_closed() const override;
    void on_close(std::function<void()> callback) override;

    struct Piece {
        std::string bytes;
        bool is_last = false;   // the answer is complete after these
        bool is_abort = false;  // cut the connection
    };
    Piece take();
    // The client has gone.
    void close();

  private:
    enum class State { waiting, streaming, ended, aborted, closed };

    std::string head(const HttpResponse& response, bool is_stream) const;
    void append_chunk(std::string_view bytes);
    void wake_once();

    const Protocol protocol_;
    const std::size_t max_unsent_bytes_;
    const std::function<void()> wake_;

    mutable std::mutex mutex_;
    State state_ = State::waiting;
    bool is_woken_ = false;  // wake_ was called and nothing taken since
    std::string unsent_;
    std::function<void()> on_close_;
};

}  // namespace ds4::server
