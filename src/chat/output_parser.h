#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/dsml_tags.h"
#include "chat/render.h"
#include "tokenizer/utf8.h"

// Sampled bytes to reasoning, content and tool calls, while they arrive (prompt.md 5).
namespace ds4::chat {

struct OutputEvent {
    enum class Kind : std::uint8_t {
        reasoning,          // text: more reasoning
        content,            // text: more content
        call_begin,         // text: name of the tool
        arguments,          // text: more of the JSON object of the open call
        call_end,           // text: the whole object, every key once
        call_in_reasoning,  // a call block started inside the reasoning: the caller may force "</think>\n\n"
    };
    Kind kind;
    std::string text;

    bool operator==(const OutputEvent&) const = default;
};

// Why sampling stopped.
enum class OutputEnd : std::uint8_t { eos, length };

enum class FinishReason : std::uint8_t {
    stop,
    length,
    tool_calls,
    error,  // a call was announced and cannot be completed
};

// Feeds events in which no part of a marker ever shows and no character is cut. Text that may turn out to be
// a marker is held back until it is decided.
class OutputParser {
  public:
    struct Options {
        Prompt::Start start = Prompt::Start::content;  // of the prompt; ended counts as content
        bool offers_tools = false;                     // without tools call syntax is ordinary text
    };

    explicit OutputParser(Options options);

    // Takes any portion of the output, EOS excluded.
    std::vector<OutputEvent> push(std::string_view bytes);
    // Ends the output: releases or repairs what was held back.
    std::vector<OutputEvent> finish(OutputEnd end);

    // The call block is complete or cannot be: sampling can stop, more output is ignored.
    bool is_done() const { return state_ == State::done; }
    // Once is_done() or after finish().
    FinishReason finish_reason() const { return finish_reason_; }
    // The call block as the model wrote it, with the white space before it.
    const std::string& raw_block() const { return raw_block_; }

  private:
    enum class State : std::uint8_t {
        output_start,  // only reasoning: a repeated <think> is swallowed
        reasoning,
        reasoning_marker,  // behind a start marker in the reasoning
        content,
        plain_content,  // content in which nothing is a marker
        between_calls,
        in_call,
        string_value,
        json_value,
        done,
    };

    // Each takes what it can from pending_; true if the state changed and there may be more to do.
    bool step();
    bool step_output_start();
    bool step_reasoning();
    bool step_reasoning_marker();
    bool step_content();
    bool step_between_calls();
    bool step_in_call();
    bool step_value();

    void begin_call(const std::string& name);
    void begin_value(const OpenTag& tag);
    void emit_key();
    void append_value(std::string_view text);
    void end_value();
    void end_call();
    void broken_block();
    void end_in_block(OutputEnd end);
    void end_in_value();

    bool is_in_block() const;
    bool is_in_open_call() const;
    void emit(OutputEvent::Kind kind, std::string_view text);
    void release(OutputEvent::Kind kind);
    std::string consume(std::size_t n);
    void done(FinishReason reason);
    std::vector<OutputEvent> take_events() { return std::exchange(events_, {}); }

    State state_;
    bool offers_tools_;
    bool is_final_ = false;  // no more output: a partial match is no match
    FinishReason finish_reason_ = FinishReason::stop;
    tokenizer::Utf8Stream utf8_;
    std::string pending_;     // not yet decided
    std::string held_space_;  // of content: white space that goes if a start marker follows
    std::vector<OutputEvent> events_;

    TagSpelling spelling_;
    std::string raw_block_;
    int n_complete_calls_ = 0;
    std::string key_;                                           // of the open parameter
    std::string value_;                                         // of the open parameter, so far
    std::vector<std::pair<std::string, std::string>> members_;  // of the open call: key, JSON
    bool has_arguments_ = false;                                // something of the object was given out
};

}  // namespace ds4::chat
