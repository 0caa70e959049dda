#include <cmath>

#include "server/chat_completions.h"
#include "server/ids.h"
#include "server/writing.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;

std::string_view finish_name(Finish::Reason reason) {
    switch (reason) {
        case Finish::Reason::stop:
        case Finish::Reason::stop_sequence:
            return "stop";
        case Finish::Reason::length:
            return "length";
        case Finish::Reason::tool_calls:
            return "tool_calls";
    }
    return "stop";
}

// {"token", "logprob", "bytes"} without its end.
std::string logprob_head(const GenerationEvent::Logprob& token) {
    std::string json = "{\"token\":" + json_text(token.token) + ",\"logprob\":" + json_number(token.logprob) +
                       ",\"bytes\":[";
    for (std::size_t i = 0; i < token.token.size(); ++i) {
        if (i > 0) json += ',';
        json += std::to_string(static_cast<unsigned char>(token.token[i]));
    }
    return json += ']';
}

std::string logprob_list(const std::vector<GenerationEvent::TokenLogprobs>& tokens) {
    std::string json = "[";
    for (const auto& token : tokens) {
        if (json.size() > 1) json += ',';
        json += logprob_head(token) + ",\"top_logprobs\":[";
        for (std::size_t i = 0; i < token.top.size(); ++i)
            json += (i > 0 ? "," : "") + logprob_head(token.top[i]) + "}";
        json += "]}";
    }
    return json += ']';
}

class ChatWriter : public ResponseWriter {
  public:
    explicit ChatWriter(ChatEcho echo)
        : echo_(std::move(echo)), id_(random_id("chatcmpl-", 24)), created_(std::to_string(unix_time())) {
        chunk_head_ = "data: " + object_head("chat.completion.chunk");
    }

    std::string start(std::int64_t) override { return chunk(0, R"({"role":"assistant","content":""})"); }

    std::string keepalive() override { return ": keepalive\n\n"; }

    std::string event(int choice, const GenerationEvent& event) override {
        std::string out;
        if (choice >= n_begun_) {
            n_begun_ = choice + 1;
            n_calls_ = 0;
            // start() has announced the first one.
            if (choice > 0) out = chunk(choice, R"({"role":"assistant","content":""})");
        }
        switch (event.kind) {
            case Kind::reasoning:
                return out += chunk(choice, "{\"reasoning_content\":" + json_text(event.text) + "}",
                                    logprobs("reasoning_content", event));
            case Kind::content:
                return out += chunk(choice, "{\"content\":" + json_text(event.text) + "}",
                                    logprobs("content", event));
            case Kind::call_begin:
                ++n_calls_;
                return out += call_chunk(choice, "\"id\":" + json_text(event.call_id) +
                                                     ",\"type\":\"function\",\"function\":{\"name\":" +
                                                     json_text(event.text) + ",\"arguments\":\"\"}");
            case Kind::arguments:
                return out +=
                       call_chunk(choice, "\"function\":{\"arguments\":" + json_text(event.text) + "}");
            case Kind::call_end:
                break;
        }
        return out;
    }

    std::string finish(int choice, const Finish& finish) override {
        return chunk(choice, "{}", "", finish_name(finish.reason));
    }

    std::string end(const Usage& usage) override {
        std::string out;
        if (echo_.include_usage)
            out = chunk_head_ + "\"choices\":[],\"usage\":" + usage_json(usage) + "}\n\n";
        return out + "data: [DONE]\n\n";
    }

    std::string fail(const ApiError& error) override {
        return "data: " + error_body(error, Dialect::openai, "") + "\n\n";
    }

    std::string body(std::span<const Choice> choices, const Usage& usage) override {
        std::string json = object_head("chat.completion") + "\"choices\":[";
        for (std::size_t i = 0; i < choices.size(); ++i) {
            if (i > 0) json += ',';
            json += "{\"index\":" + std::to_string(i) + ",\"message\":" + message(choices[i]) +
                    ",\"logprobs\":" + whole_logprobs(choices[i]) + ",\"finish_reason\":\"";
            json.append(finish_name(choices[i].finish.reason)).append("\"}");
        }
        return json + "],\"usage\":" + usage_json(usage) + "}";
    }

  private:
    std::string object_head(const std::string& object) const {
        return "{\"id\":\"" + id_ + "\",\"object\":\"" + object + "\",\"created\":" + created_ +
               ",\"model\":" + json_text(echo_.model) + ",\"system_fingerprint\":\"ds4\",";
    }

    std::string chunk(int choice, const std::string& delta, const std::string& logprobs = "",
                      std::string_view finish = "") const {
        std::string out = chunk_head_;
        out.append("\"choices\":[{\"index\":")
            .append(std::to_string(choice))
            .append(",\"delta\":")
            .append(delta);
        if (!logprobs.empty()) out.append(",\"logprobs\":").append(logprobs);
        if (finish.empty()) return out += ",\"finish_reason\":null}]}\n\n";
        return out.append(",\"finish_reason\":\"").append(finish).append("\"}]}\n\n");
    }

    std::string call_chunk(int choice, const std::string& members) const {
        return chunk(choice,
                     "{\"tool_calls\":[{\"index\":" + std::to_string(n_calls_ - 1) + "," + members + "}]}");
    }

    std::string logprobs(const char* list, const GenerationEvent& event) const {
        if (!echo_.has_logprobs) return "";
        return "{\"" + std::string(list) + "\":" + logprob_list(event.logprobs) + "}";
    }

    std::string whole_logprobs(const Choice& choice) const {
        if (!echo_.has_logprobs) return "null";
        return "{\"content\":" + logprob_list(choice.content_logprobs) +
               ",\"reasoning_content\":" + logprob_list(choice.reasoning_logprobs) + "}";
    }

    static std::string message(const Choice& choice) {
        const bool is_only_calls = choice.content.empty() && !choice.calls.empty();
        std::string json =
            "{\"role\":\"assistant\",\"content\":" + (is_only_calls ? "null" : json_text(choice.content));
        if (!choice.reasoning.empty()) json += ",\"reasoning_content\":" + json_text(choice.reasoning);
        if (!choice.calls.empty()) {
            json += ",\"tool_calls\":[";
            for (std::size_t i = 0; i < choice.calls.size(); ++i) {
                const Choice::Call& call = choice.calls[i];
                json += (i > 0 ? "," : "") + ("{\"id\":" + json_text(call.id)) +
                        ",\"type\":\"function\",\"function\":{\"name\":" + json_text(call.name) +
                        ",\"arguments\":" + json_text(call.arguments) + "}}";
            }
            json += ']';
        }
        return json += '}';
    }

    const ChatEcho echo_;
    const std::string id_, created_;
    std::string chunk_head_;
    int n_begun_ = 1;  // choices that the client knows of
    int n_calls_ = 0;  // of the choice being streamed
};

}  // namespace

std::unique_ptr<ResponseWriter> make_chat_writer(ChatEcho echo) {
    return std::make_unique<ChatWriter>(std::move(echo));
}

}  // namespace ds4::server
