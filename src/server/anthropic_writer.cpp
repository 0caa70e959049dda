#include "server/anthropic_messages.h"
#include "server/ids.h"
#include "server/writing.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;

const char* stop_reason(Finish::Reason reason) {
    switch (reason) {
        case Finish::Reason::stop:
            return "end_turn";
        case Finish::Reason::stop_sequence:
            return "stop_sequence";
        case Finish::Reason::length:
            return "max_tokens";
        case Finish::Reason::tool_calls:
            return "tool_use";
    }
    return "end_turn";
}

std::string stop_members(const Finish& finish) {
    const bool has_sequence = finish.reason == Finish::Reason::stop_sequence;
    return "\"stop_reason\":\"" + std::string(stop_reason(finish.reason)) +
           "\",\"stop_sequence\":" + (has_sequence ? json_text(finish.stop_sequence) : "null");
}

// What was cached does not count as input (api.md 6.1).
std::string message_usage(const Usage& usage, bool has_output = true) {
    return "{\"input_tokens\":" + std::to_string(usage.prompt - usage.cached) +
           ",\"cache_read_input_tokens\":" + std::to_string(usage.cached) +
           ",\"cache_creation_input_tokens\":0,\"output_tokens\":" +
           std::to_string(has_output ? usage.completion : 0) + "}";
}

std::string sse(const char* type, const std::string& members) {
    std::string out = "event: ";
    out.append(type).append("\ndata: {\"type\":\"").append(type).append("\"");
    if (!members.empty()) out.append(",").append(members);
    return out.append("}\n\n");
}

class AnthropicWriter : public ResponseWriter {
  public:
    explicit AnthropicWriter(std::string model) : model_(std::move(model)), id_(random_id("msg_", 24)) {}

    std::string start(std::int64_t n_prompt_tokens) override {
        Usage usage;
        usage.prompt = n_prompt_tokens;  // how much of it is cached shows later
        return sse("message_start",
                   "\"message\":{" + head() +
                       "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":" +
                       message_usage(usage, false) + "}");
    }

    std::string keepalive() override { return sse("ping", ""); }

    std::string event(int, const GenerationEvent& event) override {
        switch (event.kind) {
            case Kind::reasoning:
                return join({in_block(Block::thinking, R"({"type":"thinking","thinking":"","signature":""})"),
                             delta("thinking_delta", "thinking", event.text)});
            case Kind::content:
                return join({in_block(Block::text, R"({"type":"text","text":""})"),
                             delta("text_delta", "text", event.text)});
            case Kind::call_begin:
                return join({close(), open(Block::tool_use,
                                           "{\"type\":\"tool_use\",\"id\":" + json_text(event.call_id) +
                                               ",\"name\":" + json_text(event.text) + ",\"input\":{}}")});
            case Kind::arguments:
                return delta("input_json_delta", "partial_json", event.text);
            case Kind::call_end:
                return close();
        }
        return "";
    }

    std::string finish(int, const Finish& finish) override {
        finish_ = finish;
        const std::string out = close();
        if (has_answer_) return out;
        // Clients take a message without text or call for a broken one.
        return join({out, open(Block::text, R"({"type":"text","text":""})"), close()});
    }

    std::string end(const Usage& usage) override {
        return sse("message_delta",
                   "\"delta\":{" + stop_members(finish_) + "},\"usage\":" + message_usage(usage)) +
               sse("message_stop", "");
    }

    std::string fail(const ApiError& error) override {
        return sse("error", "\"error\":{\"type\":" + json_text(error_type(error, Dialect::anthropic)) +
                                ",\"message\":" + json_text(error_message(error, Dialect::anthropic)) + "}");
    }

    std::string body(std::span<const Choice> choices, const Usage& usage) override {
        const Choice& choice = choices.front();
        std::string content;
        const auto add = [&](const std::string& block) {
            content.append(content.empty() ? "" : ",").append(block);
        };
        if (!choice.reasoning.empty()) {
            add("{\"type\":\"thinking\",\"thinking\":" + json_text(choice.reasoning) + ",\"signature\":\"" +
                id_ + "\"}");
        }
        if (!choice.content.empty() || choice.calls.empty()) {
            add("{\"type\":\"text\",\"text\":" + json_text(choice.content) + "}");
        }
        for (const Choice::Call& call : choice.calls) {
            add("{\"type\":\"tool_use\",\"id\":" + json_text(call.id) + ",\"name\":" + json_text(call.name) +
                ",\"input\":" + call.arguments + "}");
        }
        return "{" + head() + "\"content\":[" + content + "]," + stop_members(choice.finish) +
               ",\"usage\":" + message_usage(usage) + "}";
    }

  private:
    enum class Block { none, thinking, text, tool_use };

    std::string head() const {
        return "\"id\":\"" + id_ +
               "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":" + json_text(model_) + ",";
    }

    std::string open(Block block, const std::string& content_block) {
        block_ = block;
        has_answer_ = has_answer_ || block == Block::text || block == Block::tool_use;
        return sse("content_block_start",
                   "\"index\":" + std::to_string(index_) + ",\"content_block\":" + content_block);
    }

    std::string in_block(Block block, const char* content_block) {
        if (block_ == block) return "";
        return join({close(), open(block, content_block)});
    }

    std::string close() {
        if (block_ == Block::none) return "";
        std::string out;
        if (block_ == Block::thinking) out = delta("signature_delta", "signature", id_);
        block_ = Block::none;
        return out + sse("content_block_stop", "\"index\":" + std::to_string(index_++));
    }

    std::string delta(const char* type, const char* member, const std::string& text) const {
        std::string out = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":";
        out.append(std::to_string(index_))
            .append(",\"delta\":{\"type\":\"")
            .append(type)
            .append("\",\"")
            .append(member);
        return out.append("\":").append(json_text(text)).append("}}\n\n");
    }

    const std::string model_, id_;
    Block block_ = Block::none;
    int index_ = 0;  // of the open block, else of the next
    bool has_answer_ = false;
    Finish finish_;
};

}  // namespace

std::unique_ptr<ResponseWriter> make_anthropic_writer(std::string model) {
    return std::make_unique<AnthropicWriter>(std::move(model));
}

}  // namespace ds4::server
