#include "server/scripted_server.h"

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "chat/protocol.h"
#include "server/log.h"

namespace ds4::test {

namespace protocol = chat::protocol;

std::string call_block(const std::string& name,
                       const std::vector<std::pair<std::string, std::string>>& parameters) {
    const std::string dsml(protocol::dsml);
    std::string text = "\n\n<" + dsml + "tool_calls>\n<" + dsml + "invoke name=\"" + name + "\">\n";
    for (const auto& [key, value] : parameters) {
        text += "<" + dsml + "parameter name=\"" + key + "\" string=\"true\">" + value + "</" + dsml +
                "parameter>\n";
    }
    return text + "</" + dsml + "invoke>\n</" + dsml + "tool_calls>";
}

ScriptedServer::ScriptedServer(const Script& script, server::ServiceOptions options,
                               server::HttpOptions http_options) {
    server::log::set_level(server::log::Level::off);
    nlohmann::json json = {{"tokenizer", std::string(DS4_MODELS) + "/ds4-tiny.gguf"},
                           {"context", script.context},
                           {"decode_us", script.decode_us},
                           {"prefill_us", script.prefill_us},
                           {"device_failures", script.device_failures},
                           {"failed_restarts", script.failed_restarts},
                           {"device_lost", script.device_lost},
                           {"rules", nlohmann::json::array()}};
    for (const ScriptRule& rule : script.rules) {
        json["rules"].push_back({{"after", rule.after}, {"say", rule.say}, {"fail", rule.fail}});
    }
    write_file(directory_ / "script.json", json.dump());
    EngineOptions engine_options;
    engine_options.model = directory_ / "script.json";
    engine_ = Engine::open(engine_options);

    service_ = std::make_unique<server::Service>(options);
    service_->open(*engine_);
    http_options.port = 0;
    http_options.presence_interval = std::chrono::milliseconds(20);
    http_ = std::make_unique<server::HttpServer>(
        http_options,
        [this](server::HttpRequest request, std::shared_ptr<server::HttpReply> reply) {
            service_->handle(std::move(request), std::move(reply));
        },
        [this](const server::HttpRequest& request, const server::ApiError& why) {
            return service_->refuse(request, why);
        });
}

HttpAnswer ScriptedServer::post(const std::string& path, const std::string& body,
                                const std::string& headers) const {
    return http(port(), "POST", path, body, headers);
}

HttpAnswer ScriptedServer::get(const std::string& path, const std::string& headers) const {
    return http(port(), "GET", path, "", headers);
}

bool ScriptedServer::becomes_idle(std::chrono::milliseconds patience) const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
        const auto health = nlohmann::json::parse(get("/health").body);
        if (!health.at("busy").get<bool>()) return true;
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

double ScriptedServer::metric(const std::string& name) const {
    std::istringstream lines(get("/metrics").body);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(name + " ")) return std::stod(line.substr(name.size()));
    }
    return -1;
}

std::vector<std::string> data_lines(const std::string& stream) {
    std::vector<std::string> data;
    std::istringstream lines(stream);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("data: ")) data.push_back(line.substr(6));
    }
    return data;
}

}  // namespace ds4::test
