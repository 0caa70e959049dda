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
namespace {

const std::regex kAddress("listening on http://[^:]+:([0-9]+)\n");

std::vector<std::string> with_model(const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"-m", std::string(DS4_MODELS) + "/ds4-tiny.gguf", "--port", "0"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
}

}  // namespace

RunningServer::RunningServer(const std::vector<std::string>& arguments)
    : RunningServer("ds4-server", with_model(arguments)) {}

RunningServer::RunningServer(const std::string& program, const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {std::string(DS4_BIN) + "/" + program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string log = dir_ / "log";
    child_ = ::fork();
    if (child_ == 0) {
        ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    if (!has_come_up(1)) {
        stop(SIGKILL);
        throw std::runtime_error("the server did not come up: " + log_text());
    }
    const std::string text = log_text();
    std::smatch found;
    std::regex_search(text, found, kAddress);
    port_ = static_cast<std::uint16_t>(std::stoi(found[1]));
}

bool RunningServer::has_come_up(int times) const {
    for (int i = 0; i < 6000; ++i) {
        const std::string text = log_text();
        if (std::distance(std::sregex_iterator(text.begin(), text.end(), kAddress), {}) >= times) return true;
        siginfo_t ended{};
        ::waitid(P_PID, static_cast<id_t>(child_), &ended, WEXITED | WNOHANG | WNOWAIT);
        if (ended.si_pid != 0) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
}

bool RunningServer::has_open(int fd) const {
    return std::filesystem::exists("/proc/" + std::to_string(child_) + "/fd/" + std::to_string(fd));
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
    return wait();
}

int RunningServer::wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace ds4::test
