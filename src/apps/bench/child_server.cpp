#include "apps/bench/child_server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <regex>
#include <thread>

#include "apps/app.h"
#include "ds4/error.h"

namespace ds4::bench {
namespace {

constexpr std::chrono::milliseconds kLook{20};

std::string last_line(std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

}  // namespace

ChildServer::ChildServer(std::vector<std::string> arguments) : log_(std::tmpfile(), &std::fclose) {
    if (!log_) throw IoError("cannot make a temporary file for the server's log");
    const auto program = app::program_directory() / "ds4-server";
    if (!std::filesystem::exists(program))
        throw Error(program.string() + ": is not there; build it, or name a running server with --url");
    arguments.insert(arguments.begin(), {program.string(), "--port", "0"});
    start(std::move(arguments));
    const std::regex address("listening on http://[^ ]+:([0-9]+)");
    // As long as it loads, it may: a large model on a slow disk takes minutes.
    for (std::smatch found; port_.empty(); std::this_thread::sleep_for(kLook)) {
        const bool is_over = has_ended();
        const std::string text = log_text();
        if (std::regex_search(text, found, address)) {
            port_ = found[1];
        } else if (is_over) {
            throw Error("the server did not start: " + last_line(text));
        }
    }
}

ChildServer::~ChildServer() {
    stop();
}

void ChildServer::start(std::vector<std::string> arguments) {
    std::vector<char*> argv;
    for (std::string& word : arguments) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int log = ::fileno(log_.get());
    const pid_t parent = ::getpid();
    child_ = ::fork();
    if (child_ < 0) throw IoError("cannot start another process");
    if (child_ > 0) return;
    // Only what may be called between fork and exec.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    ::dup2(log, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
}

bool ChildServer::has_ended() {
    if (child_ > 0 && ::waitpid(child_, nullptr, WNOHANG) == child_) child_ = -1;
    return child_ < 0;
}

std::string ChildServer::log_text() const {
    const int log = ::fileno(log_.get());
    struct stat status {};
    if (::fstat(log, &status) != 0) return {};
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    const ssize_t n = ::pread(log, text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    return text;
}

void ChildServer::stop() {
    if (child_ < 0) return;
    ::kill(child_, SIGTERM);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
}

}  // namespace ds4::bench
