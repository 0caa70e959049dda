#include "apps/chat/line_editor.h"

#include <histedit.h>
#include <langinfo.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <iostream>
#include <utility>

#include "apps/chat/terminal.h"

namespace ds4::chat_app {
namespace {

constexpr int kHistoryLines = 1000;
constexpr std::string_view kPasteEnd = "\033[201~";

// The editor decodes characters by the locale; a terminal that says nothing speaks UTF-8 today.
void use_utf8() {
    std::setlocale(LC_CTYPE, "");
    if (std::string_view(::nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

// Bound to the terminal's start-of-paste mark: takes everything up to the end mark as text, newlines
// included, where typing a newline would end the line.
unsigned char insert_paste(EditLine* editor, int) {
    std::string text;
    char c = 0;
    while (el_getc(editor, &c) == 1) {
        text += c == '\r' ? '\n' : c;
        if (text.ends_with(kPasteEnd)) {
            text.resize(text.size() - kPasteEnd.size());
            break;
        }
    }
    if (!text.empty() && el_insertstr(editor, text.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
}

}  // namespace

struct LineEditor::Terminal {
    explicit Terminal(std::filesystem::path file)
        : history_file(std::move(file)),
          editor(el_init("ds4", stdin, stderr, stderr)),
          lines(history_init()) {
        HistEvent event;
        history(lines, &event, H_SETSIZE, kHistoryLines);
        history(lines, &event, H_SETUNIQUE, 1);
        if (!history_file.empty()) history(lines, &event, H_LOAD, history_file.c_str());
        el_set(editor, EL_CLIENTDATA, this);
        el_set(editor, EL_PROMPT, &Terminal::prompt_of);
        el_set(editor, EL_EDITOR, "emacs");
        el_set(editor, EL_HIST, history, lines);
        el_set(editor, EL_ADDFN, "ds4-paste", "insert a paste", insert_paste);
        el_set(editor, EL_BIND, "\033[200~", "ds4-paste", nullptr);
        el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    }
    ~Terminal() {
        history_end(lines);
        el_end(editor);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    static char* prompt_of(EditLine* e) {
        Terminal* self = nullptr;
        el_get(e, EL_CLIENTDATA, &self);
        return self->prompt.data();
    }

    void remember(const std::string& line) {
        HistEvent event;
        history(lines, &event, H_ENTER, line.c_str());
        if (!history_file.empty()) history(lines, &event, H_SAVE, history_file.c_str());
    }

    std::filesystem::path history_file;
    EditLine* editor;
    History* lines;
    std::string prompt;
};

LineEditor::LineEditor(std::filesystem::path history_file) {
    if (!input_is_terminal()) return;
    use_utf8();
    terminal_ = std::make_unique<Terminal>(std::move(history_file));
}

LineEditor::~LineEditor() = default;

LineEditor::Input LineEditor::read(const std::string& prompt) {
    if (!terminal_) {
        std::string line;
        if (!std::getline(std::cin, line)) return {Status::end, {}};
        return {Status::line, line};
    }
    terminal_->prompt = prompt;
    std::fputs("\033[?2004h", stderr);  // ask the terminal to mark pastes
    int length = 0;
    const InterruptScope interrupts;
    const char* text = el_gets(terminal_->editor, &length);
    std::fputs("\033[?2004l", stderr);
    if (text == nullptr || length <= 0) {
        if (!InterruptScope::interrupted()) return {Status::end, {}};
        std::fputs("\n", stderr);
        el_reset(terminal_->editor);
        return {Status::interrupted, {}};
    }
    std::string line(text, static_cast<std::size_t>(length));
    if (line.ends_with('\n')) line.pop_back();
    if (!line.empty()) terminal_->remember(line);
    return {Status::line, line};
}

}  // namespace ds4::chat_app
