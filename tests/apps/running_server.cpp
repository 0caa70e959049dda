#include "apps/running_server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <regex>
#include <stdexcept>
#include <thread>

namespace ds4::test {

RunningServer::RunningServer(std::vector<std::string> arguments) {
    const std::string model = std::string(DS4_MODELS) + "/ds4-tiny.gguf";
    arguments.insert(arguments.begin(), {std::string(DS4_BIN) + "/ds4-server", "-m", model, "--port", "0"});
    std::vector<char*> argv;
    for (std::string& word : arguments) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string log = dir_ / "log";
    child_ = ::fork();
    if (child_ == 0) {
        ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    const std::regex address("listening on http://[^:]+:([0-9]+)");
    std::smatch found;
    for (int i = 0; i < 6000; ++i) {
        const std::string text = log_text();
        if (std::regex_search(text, found, address)) {
            port_ = static_cast<std::uint16_t>(std::stoi(found[1]));
            return;
        }
        if (::waitpid(child_, nullptr, WNOHANG) != 0) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    child_ = -1;
    throw std::runtime_error("the server did not come up: " + log_text());
}

RunningServer::~RunningServer() {
    if (child_ > 0) stop(SIGKILL);
}

std::size_t RunningServer::resident_bytes() const {
    std::ifstream statm("/proc/" + std::to_string(child_) + "/statm");
    std::size_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

int RunningServer::stop(int signal) {
    ::kill(child_, signal);
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace ds4::test
