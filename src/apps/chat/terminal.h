#pragma once

#include <string_view>

// Terminal manners of the ds4 program: the answer on standard output, everything else on standard error.
namespace ds4::chat_app {

// While one exists, Ctrl+C sets a flag instead of ending the program; the flag is cleared at the start.
class InterruptScope {
  public:
    InterruptScope();
    ~InterruptScope();
    InterruptScope(const InterruptScope&) = delete;
    InterruptScope& operator=(const InterruptScope&) = delete;

    static bool interrupted();
};

bool output_is_terminal();
bool error_is_terminal();
bool input_is_terminal();

// Prints an answer as it comes. On a terminal thinking is dimmed; elsewhere it is left out, so that a pipe
// gets only the answer.
class AnswerPrinter {
  public:
    AnswerPrinter();
    ~AnswerPrinter();
    AnswerPrinter(const AnswerPrinter&) = delete;
    AnswerPrinter& operator=(const AnswerPrinter&) = delete;

    void thinking(std::string_view text);
    void answer(std::string_view text);
    // Ends the line if the answer did not.
    void finish();

  private:
    void set_dim(bool dim);
    void put(std::string_view text);

    bool terminal_;
    bool dim_ = false;
    bool in_answer_ = false;
    char last_ = '\n';
};

}  // namespace ds4::chat_app
