// ds4-server from outside, with a scripted engine whose GPU is lost to the process when it fails.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "apps/running_server.h"
#include "server/http_client.h"

namespace ds4 {
namespace {

using test::HttpAnswer;
using test::RunningServer;
using Json = nlohmann::json;

// A port that nobody else gets, because it is bound here, and that a server may listen on, because nobody
// does.
class ReservedPort {
  public:
    ReservedPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const int yes = 1;
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        const auto where = reinterpret_cast<sockaddr*>(&address);
        if (::bind(fd_, where, size) != 0 || ::getsockname(fd_, where, &size) != 0)
            throw std::runtime_error("cannot bind");
        number_ = ntohs(address.sin_port);
    }
    ~ReservedPort() { ::close(fd_); }
    ReservedPort(const ReservedPort&) = delete;
    ReservedPort& operator=(const ReservedPort&) = delete;

    std::string text() const { return std::to_string(number_); }

  private:
    int fd_;
    std::uint16_t number_;
};

class ServerRestart : public testing::Test {
  protected:
    ServerRestart() {
        const Json script = {
            {"tokenizer", std::string(DS4_MODELS) + "/ds4-tiny.gguf"},
            {"device_lost", true},
            {"rules",
             {{{"after", "good"}, {"say", "fine"}}, {{"after", "bad"}, {"say", "oh"}, {"fail", "device"}}}}};
        test::write_file(directory_ / "script.json", script.dump());
    }

    std::vector<std::string> arguments() const {
        return {"-m",
                directory_ / "script.json",
                "--port",
                port_.text(),
                "--kv-disk-dir",
                directory_ / "kv",
                "--kv-cache-min-tokens",
                "16",
                "--kv-cache-boundary-align-tokens",
                "16"};
    }
    static HttpAnswer ask(const RunningServer& server, const std::string& prompt) {
        return test::http(server.port(), "POST", "/v1/completions", Json{{"prompt", prompt}}.dump());
    }

  private:
    test::TemporaryDirectory directory_;
    ReservedPort port_;
};

TEST_F(ServerRestart, ALostGpuMakesItANewProcessThatGoesOn) {
    // What it has open beside its own files, as a driver does, with a number that none of those gets.
    const int extra = ::fcntl(STDERR_FILENO, F_DUPFD, 500);
    const RunningServer server("restarting-server", arguments());
    ::close(extra);
    EXPECT_TRUE(server.has_open(extra));
    std::string prompt;
    for (int i = 0; i < 60; ++i) prompt += "much said ";
    prompt += "good";
    const Json before = Json::parse(ask(server, prompt).body);
    EXPECT_EQ(before["choices"][0]["text"], "fine");
    for (int life = 2; life <= 3; ++life) {
        const HttpAnswer failed = ask(server, "bad");
        EXPECT_EQ(failed.status, 503);
        EXPECT_EQ(failed.headers.count("retry-after"), 1U);
        ASSERT_TRUE(server.has_come_up(life)) << server.log_text();
        const Json after = Json::parse(ask(server, prompt).body);
        EXPECT_EQ(after["choices"], before["choices"]);
        EXPECT_GT(after["usage"]["prompt_tokens_details"]["cached_tokens"], 60);
    }
    EXPECT_FALSE(server.has_open(extra));
    EXPECT_NE(server.log_text().find("the GPU is lost to this process: starting anew"), std::string::npos);
}

TEST_F(ServerRestart, ANewProcessEndsWhenItIsTold) {
    RunningServer server("restarting-server", arguments());
    EXPECT_EQ(ask(server, "bad").status, 503);
    ASSERT_TRUE(server.has_come_up(2)) << server.log_text();
    EXPECT_EQ(server.stop(SIGTERM), 0);
}

// Else a machine that is broken would be busy with nothing else.
TEST_F(ServerRestart, OneThatHasJustStartedEnds) {
    RunningServer server("scripted-server", arguments());
    EXPECT_EQ(ask(server, "bad").status, 503);
    EXPECT_EQ(server.wait(), 1);
    EXPECT_NE(server.log_text().find("\nds4-server: the GPU was lost right after the start; "),
              std::string::npos)
        << server.log_text();
    EXPECT_EQ(server.log_text().find("starting anew"), std::string::npos);
}

}  // namespace
}  // namespace ds4
