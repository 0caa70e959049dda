#include "apps/chat/terminal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace ds4::chat_app {
namespace {

std::atomic<bool> g_interrupted{false};
struct sigaction g_previous {};

void on_interrupt(int) {
    g_interrupted.store(true, std::memory_order_relaxed);
}

}  // namespace

InterruptScope::InterruptScope() {
    g_interrupted = false;
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, &g_previous);
}

InterruptScope::~InterruptScope() {
    ::sigaction(SIGINT, &g_previous, nullptr);
}

bool InterruptScope::interrupted() {
    return g_interrupted.load(std::memory_order_relaxed);
}

bool output_is_terminal() {
    return ::isatty(STDOUT_FILENO) == 1;
}
bool error_is_terminal() {
    return ::isatty(STDERR_FILENO) == 1;
}
bool input_is_terminal() {
    return ::isatty(STDIN_FILENO) == 1;
}

AnswerPrinter::AnswerPrinter() : terminal_(output_is_terminal()) {}

AnswerPrinter::~AnswerPrinter() {
    set_dim(false);
}

void AnswerPrinter::set_dim(bool dim) {
    if (!terminal_ || dim == dim_) return;
    std::fputs(dim ? "\033[2m" : "\033[0m", stdout);
    std::fflush(stdout);
    dim_ = dim;
}

void AnswerPrinter::put(std::string_view text) {
    if (text.empty()) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    last_ = text.back();
}

void AnswerPrinter::thinking(std::string_view text) {
    if (!terminal_ || text.empty()) return;
    set_dim(true);
    put(text);
}

void AnswerPrinter::answer(std::string_view text) {
    if (text.empty()) return;
    const bool after_thinking = dim_;
    set_dim(false);
    if (after_thinking && !in_answer_) put("\n\n");
    in_answer_ = true;
    put(text);
}

void AnswerPrinter::finish() {
    set_dim(false);
    if (last_ != '\n') put("\n");
}

}  // namespace ds4::chat_app
