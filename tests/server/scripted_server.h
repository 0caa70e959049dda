#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat/protocol.h"
#include "ds4/engine.h"
#include "server/http.h"
#include "server/http_client.h"
#include "server/service.h"
#include "temporary_directory.h"

namespace ds4::test {

// What the scripted engine says after a text; see scripted_engine.cpp.
struct ScriptRule {
    std::string after, say;
    std::string fail = "";
};

struct Script {
    std::vector<ScriptRule> rules;
    int decode_us = 0, prefill_us = 0;
    std::int64_t context = 32768;
    int device_failures = 1, failed_restarts = 0;
    bool device_lost = false;
};

// "<｜Assistant｜><think>" and "<｜Assistant｜></think>": where answers start.
inline const std::string kThinks =
    std::string(chat::protocol::assistant) + std::string(chat::protocol::think);
inline const std::string kAnswers =
    std::string(chat::protocol::assistant) + std::string(chat::protocol::end_think);
// A block of one call with string parameters, as the model writes it.
std::string call_block(const std::string& name,
                       const std::vector<std::pair<std::string, std::string>>& parameters);

// The whole server but for the command line, in this process, on a free port.
class ScriptedServer {
  public:
    explicit ScriptedServer(const Script& script, server::ServiceOptions options = {},
                            server::HttpOptions http_options = {});

    std::uint16_t port() const { return http_->port(); }
    server::Service& service() { return *service_; }
    server::HttpServer& network() { return *http_; }
    const std::filesystem::path& directory() const { return directory_.path(); }

    HttpAnswer post(const std::string& path, const std::string& body, const std::string& headers = "") const;
    HttpAnswer get(const std::string& path, const std::string& headers = "") const;
    // True once no slot is busy and nothing waits.
    bool becomes_idle(std::chrono::milliseconds patience) const;
    // Value of a metric that has no labels, or with these: `name{label="x"}`.
    double metric(const std::string& name) const;

  private:
    TemporaryDirectory directory_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<server::Service> service_;
    std::unique_ptr<server::HttpServer> http_;
};

// The payloads of the "data:" lines of a stream.
std::vector<std::string> data_lines(const std::string& stream);

}  // namespace ds4::test
