#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "chat/messages.h"
#include "ds4/sampling.h"
#include "server/api_error.h"

// What the dialects of the API have in common: each turns a body into a GenerationRequest, and what is
// generated back into its own JSON through a ResponseWriter. Neither knows of sockets or of the model.
namespace ds4::server {

// Whether and what the model must call.
enum class ToolChoice : std::uint8_t { none, automatic, required, named };

// The prompt of /v1/completions: text, or token ids as they are.
using RawPrompt = std::variant<std::string, std::vector<TokenId>>;

struct GenerationRequest {
    chat::Conversation conversation;        // unused if raw
    std::optional<RawPrompt> raw;           // no chat format, no thinking, no parsing (prompt.md 2.10)
    bool echo = false;                      // raw only: the answer starts with the prompt
    const char* prompt_field = "messages";  // what overflows if the prompt is too long

    ToolChoice tool_choice = ToolChoice::automatic;  // with tools in the conversation
    std::string tool_name;                           // of named: as the prompt calls it
    bool parallel_tool_calls = true;                 // false: one call ends the turn
    const char* call_id_prefix = "call_";

    bool stream = false;
    std::int64_t max_tokens = 0;  // 0: until the context is full
    Sampling sampling;            // ignored while thinking, but for the seed (prompt.md 3)
    bool has_seed = false;        // else the server draws one
    std::vector<std::string> stop;
    int n_choices = 1;
    std::optional<int> top_logprobs;              // log probabilities with this many alternatives
    std::optional<std::int64_t> thinking_budget;  // tokens of reasoning
    bool client_keeps_reasoning = true;           // gets it in a form that it can send back
};

// What tokens did to the answer. The parts of one kind of a choice, joined, are the whole.
struct GenerationEvent {
    enum class Kind : std::uint8_t {
        reasoning,
        content,
        call_begin,  // text: name of the tool as the prompt has it
        arguments,   // text: more of the open call's JSON object
        call_end,    // text: the whole object, every key once
    };

    struct Logprob {
        std::string token;  // its bytes
        float logprob = 0;  // natural logarithm
    };
    struct TokenLogprobs : Logprob {
        std::vector<Logprob> top;  // best first
    };

    Kind kind = Kind::content;
    std::string text;
    std::string call_id;                  // of call_begin and call_end
    std::vector<TokenLogprobs> logprobs;  // of reasoning and content: the tokens that made this text
};

// How a choice ended. A call announced and neither ended nor in `calls` was cut.
struct Finish {
    enum class Reason : std::uint8_t { stop, stop_sequence, length, tool_calls };

    Reason reason = Reason::stop;
    std::string stop_sequence;  // the string that was hit
};

struct Usage {
    std::int64_t prompt = 0;
    std::int64_t cached = 0;  // of the prompt: not computed again
    std::int64_t completion = 0;
    std::int64_t reasoning = 0;  // of the completion
};

// One choice as a whole.
struct Choice {
    struct Call {
        std::string id, name, arguments;
    };

    std::string reasoning, content;
    std::vector<Call> calls;  // complete ones
    std::vector<GenerationEvent::TokenLogprobs> reasoning_logprobs, content_logprobs;
    Finish finish;
};

// Writes one response in its dialect. Streams: start(), then event()s and keepalive()s, per choice a
// finish(), then end() — or fail() at any point after start(). Each returns the bytes to send, possibly none.
// Not streamed: body(). Calls must not overlap.
class ResponseWriter {
  public:
    virtual ~ResponseWriter() = default;

    virtual std::string start(std::int64_t n_prompt_tokens) = 0;
    virtual std::string keepalive() = 0;
    virtual std::string event(int choice, const GenerationEvent& event) = 0;
    virtual std::string finish(int choice, const Finish& finish) = 0;
    virtual std::string end(const Usage& usage) = 0;
    // The error as the stream's last event. Nothing may follow.
    virtual std::string fail(const ApiError& error) = 0;

    virtual std::string body(std::span<const Choice> choices, const Usage& usage) = 0;
};

// A parsed body: what to generate, and how to write it.
struct Exchange {
    GenerationRequest request;
    std::unique_ptr<ResponseWriter> writer;
};

}  // namespace ds4::server
