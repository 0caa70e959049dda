#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace ds4::chat_app {

// Lines from the user: editing, history and multi-line paste on a terminal, plain lines otherwise.
class LineEditor {
  public:
    // history_file may be empty: nothing is remembered after the end.
    explicit LineEditor(std::filesystem::path history_file);
    ~LineEditor();
    LineEditor(const LineEditor&) = delete;
    LineEditor& operator=(const LineEditor&) = delete;

    enum class Status { line, interrupted, end };
    struct Input {
        Status status;
        std::string text;  // without the final newline; a paste may hold newlines inside
    };
    Input read(const std::string& prompt);

  private:
    struct Terminal;
    std::unique_ptr<Terminal> terminal_;  // null when standard input is no terminal
};

}  // namespace ds4::chat_app
