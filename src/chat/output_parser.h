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
    stop_sequence,
    tool_calls,
    error,         // a call was announced and cannot be completed
    broken_block,  // no call of a block can be read (Options::holds_broken_block)
};

// What the parser knows of a tool.
struct ToolShape {
    std::string name;
    std::vector<std::string> properties;  // of its parameters
};
// From function objects as Conversation::tools has them.
std::vector<ToolShape> tool_shapes(const std::vector<std::string>& schemas);

// Feeds events in which no part of a marker ever shows and no character is cut. Text that may turn out to be
// a marker is held back until it is decided.
class OutputParser {
  public:
    struct Options {
        Prompt::Start start = Prompt::Start::content;  // of the prompt; ended counts as content
        bool offers_tools = false;                     // without tools call syntax is ordinary text
        std::vector<std::string> stop = {};            // end the output where they begin, in content only
        std::vector<ToolShape> tools = {};
        // Nobody has seen the events yet: a block without a single readable call ends the output with
        // FinishReason::broken_block instead of becoming content or an error, for another try.
        bool holds_broken_block = false;
    };

    explicit OutputParser(Options options);
    OutputParser(OutputParser&&) = default;
    OutputParser& operator=(OutputParser&&) = default;

    // Takes any portion of the output, EOS excluded.
    std::vector<OutputEvent> push(std::string_view bytes);
    // Ends the output: releases or repairs what was held back.
    std::vector<OutputEvent> finish(OutputEnd end);

    // A stop string was hit, or the call block is complete or cannot be: sampling can stop, more is ignored.
    bool is_done() const { return state_ == State::done; }
    bool in_reasoning() const;
    bool in_block() const;
    // The next token starts in syntax, which is best chosen greedily, not in text of the model's own: tags,
    // names, white space between them, JSON outside its strings (api.md 8).
    bool next_is_syntax() const;
    // The output so far ends inside a character.
    bool has_partial_character() const { return utf8_.is_open(); }
    // Once is_done() or after finish().
    FinishReason finish_reason() const { return finish_reason_; }
    // The call block as the model wrote it, with the white space before it.
    const std::string& raw_block() const { return raw_block_; }
    // The string that was hit, with FinishReason::stop_sequence.
    const std::string& stop_sequence() const { return stop_sequence_; }

  private:
    enum class State : std::uint8_t {
        output_start,  // only reasoning: a repeated <think> is swallowed
        reasoning,
        reasoning_marker,  // behind a start marker in the reasoning
        content,
        plain_content,  // content in which nothing is a marker
        between_calls,
        in_call,
        undecided_value,  // a string, or parameters of an object
        string_value,
        json_value,
        done,
    };
    // An object whose members are being read: the arguments of the open call, or nested parameters in them.
    struct Object {
        std::string key;                                           // in the object around it
        std::vector<std::pair<std::string, std::string>> members;  // key, JSON
    };

    // Each takes what it can from pending_; true if the state changed and there may be more to do.
    bool step();
    bool step_output_start();
    bool step_reasoning();
    bool step_reasoning_marker();
    bool step_content();
    bool step_between_calls();
    bool step_in_call();
    bool step_undecided_value();
    bool step_value();

    void give_content(std::string_view text);

    void begin_call(const std::string& name);
    void begin_value(const OpenTag& tag);
    void begin_string();
    void append_value(std::string_view text);
    void end_value();
    void end_object();
    void end_call();
    void add_member(const std::string& key, const std::string& json);
    void emit_member(const std::string& key, const std::string& json);
    void emit_key(const std::string& key);
    bool may_be_wrapper(const std::string& key) const;
    bool unwraps(const std::string& json) const;
    void release_wrapper();
    void broken_block();
    void end_in_block(OutputEnd end);
    void end_in_value();
    bool cut_closing_tag(std::string_view name);

    bool is_nested() const { return objects_.size() > 1; }
    bool is_in_value() const;
    bool is_in_open_call() const;
    void emit(OutputEvent::Kind kind, std::string_view text);
    std::string consume(std::size_t n);
    void done(FinishReason reason);
    std::vector<OutputEvent> take_events() { return std::exchange(events_, {}); }

    Options options_;
    State state_;
    bool is_final_ = false;  // no more output: a partial match is no match
    FinishReason finish_reason_ = FinishReason::stop;
    tokenizer::Utf8Stream utf8_;
    std::string pending_;       // not yet decided
    std::string held_space_;    // of content: white space that goes if a start marker follows
    std::string held_content_;  // the beginning of a stop string, perhaps
    std::string stop_sequence_;
    std::vector<OutputEvent> events_;

    TagSpelling spelling_;
    std::string raw_block_;
    int n_complete_calls_ = 0;
    const ToolShape* tool_ = nullptr;  // of the open call, if it is known
    std::vector<Object> objects_;      // open ones, the arguments first
    std::string key_;                  // of the open parameter
    std::string value_;                // of the open parameter, so far
    bool in_json_string_ = false;      // the JSON value so far ends inside a string
    bool after_backslash_ = false;     // in that string
    bool has_arguments_ = false;       // something of the arguments was given out
    bool holds_wrapper_ = false;       // the only parameter so far may have to be unwrapped
};

}  // namespace ds4::chat
