#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "apps/app.h"
#include "apps/chat/commands.h"
#include "apps/chat/conversation.h"
#include "apps/chat/line_editor.h"

namespace ds4::chat_app {
namespace {

constexpr const char* kHelp =
    "/think         think before answering\n"
    "/think-max     think as thoroughly as possible (needs a context of 393216 tokens)\n"
    "/nothink       answer at once\n"
    "/ctx N         use a context of N tokens\n"
    "/read FILE     send the contents of a file\n"
    "/clear         forget the conversation\n"
    "/quit          leave (also Ctrl+D)\n"
    "Ctrl+C stops an answer and keeps the chat. A paste may have many lines.\n";

std::filesystem::path history_file() {
    const char* home = std::getenv("HOME");
    return home == nullptr ? std::filesystem::path() : std::filesystem::path(home) / ".ds4_history";
}

class Chat {
  public:
    Chat(Engine& engine, const Options& options) : conversation_(engine, options), editor_(history_file()) {}

    void run() {
        std::fputs("Type a message, or /help.\n", stderr);
        for (;;) {
            const LineEditor::Input input = editor_.read("ds4> ");
            if (input.status == LineEditor::Status::end) break;
            if (input.status == LineEditor::Status::interrupted || input.text.empty()) continue;
            try {
                if (!handle(input.text)) break;
            } catch (const DeviceMemoryError& error) {
                std::fprintf(stderr, "ds4: %s\n", error.what());
            } catch (const DeviceError&) {
                throw;  // the conversation is gone with it
            } catch (const Error& error) {
                std::fprintf(stderr, "ds4: %s\n", error.what());
            }
        }
    }

  private:
    // False: leave.
    bool handle(const std::string& line) {
        const std::size_t space = line.find(' ');
        const std::string command = line.substr(0, space);
        const std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
        if (line.front() != '/') {
            ask(line);
        } else if (command == "/quit" || command == "/exit") {
            return false;
        } else if (command == "/help") {
            std::fputs(kHelp, stderr);
        } else if (command == "/think") {
            conversation_.set_thinking(Thinking::on);
        } else if (command == "/think-max") {
            conversation_.set_thinking(Thinking::max);
        } else if (command == "/nothink") {
            conversation_.set_thinking(Thinking::off);
        } else if (command == "/clear") {
            conversation_.clear();
        } else if (command == "/ctx") {
            set_context(argument);
        } else if (command == "/read") {
            ask(app::read_text(argument));
        } else {
            std::fprintf(stderr, "ds4: no command %s; /help lists them\n", command.c_str());
        }
        return true;
    }

    void ask(const std::string& text) {
        const Answer answer = conversation_.ask(text);
        if (answer.reason == FinishReason::context) {
            std::fputs("ds4: the context is full; /ctx N makes it larger, /clear starts again\n", stderr);
        }
        print_timing(answer.timing);
    }

    void set_context(const std::string& argument) {
        std::int64_t n = 0;
        const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), n);
        if (error != std::errc{} || end != argument.data() + argument.size() || n < 1) {
            throw Error("/ctx takes a number of tokens, not '" + argument + "'");
        }
        conversation_.set_context(n);
        std::fprintf(stderr, "context: %lld tokens\n", static_cast<long long>(conversation_.context()));
    }

    Conversation conversation_;
    LineEditor editor_;
};

}  // namespace

int run_interactive(Engine& engine, const Options& options) {
    if (options.raw) throw Error("--raw continues a text; give one with -p or --prompt-file");
    if (!options.dump_logprobs.empty()) throw Error("--dump-logprobs needs a prompt; give one with -p");
    Chat(engine, options).run();
    return 0;
}

}  // namespace ds4::chat_app
