#include <utility>

#include "server/ids.h"
#include "server/responses.h"
#include "server/writing.h"

namespace ds4::server {
namespace {

using Kind = GenerationEvent::Kind;
using ToolKind = ResponsesTool::Kind;

constexpr int kIdDigits = 24;

std::string string_or_null(const std::string& text) {
    return text.empty() ? "null" : json_text(text);
}

std::string response_usage(const Usage& u) {
    return "{\"input_tokens\":" + std::to_string(u.prompt) +
           ",\"input_tokens_details\":{\"cached_tokens\":" + std::to_string(u.cached) +
           "},\"output_tokens\":" + std::to_string(u.completion) +
           ",\"output_tokens_details\":{\"reasoning_tokens\":" + std::to_string(u.reasoning) +
           "},\"total_tokens\":" + std::to_string(u.prompt + u.completion) + "}";
}

// The codes that clients of response.failed know.
std::string failure_code(const ApiError& error) {
    switch (error.kind) {
        case ErrorKind::context_overflow:
            return "context_length_exceeded";
        case ErrorKind::queue_full:
            return "rate_limit_exceeded";
        case ErrorKind::invalid_request:
            return "invalid_prompt";
        default:
            return "server_error";
    }
}

// The text of a custom tool's only argument; what else the model made up as it is.
std::string custom_input(const std::string& arguments) {
    try {
        const chat::Json json = chat::parse_json(arguments);
        const chat::Json* input = json.find("input");
        return input != nullptr && input->is(chat::Json::Kind::string) ? input->text : arguments;
    } catch (const PromptError&) {
        return arguments;
    }
}

// An item of `output` while it is open.
struct Item {
    enum class Type { none, reasoning, message, call };

    Type type = Type::none;
    std::string id;
    std::string text;  // of reasoning and message
    // of a call
    ResponsesTool tool;
    std::string call_id, arguments;
};

class ResponsesWriter : public ResponseWriter {
  public:
    explicit ResponsesWriter(ResponsesEcho echo)
        : echo_(std::move(echo)), id_(random_id("resp_", kIdDigits)), created_(std::to_string(unix_time())) {}

    std::string start(std::int64_t) override {
        is_stream_ = true;
        return join({sse("response.created", "\"response\":" + response("in_progress")), keepalive()});
    }

    // Comments do not count as life to Codex; this event does, as often as it comes.
    std::string keepalive() override {
        return sse("response.in_progress", "\"response\":" + response("in_progress"));
    }

    std::string event(int, const GenerationEvent& event) override {
        switch (event.kind) {
            case Kind::reasoning:
                return echo_.summary.empty() ? "" : add_reasoning(event.text);
            case Kind::content:
                return add_text(event.text);
            case Kind::call_begin:
                return join({close("completed"), begin_call(event.text, event.call_id)});
            case Kind::arguments:
                return add_arguments(event.text);
            case Kind::call_end:
                return end_call(event.text);
        }
        return "";
    }

    std::string finish(int, const Finish& finish) override {
        finish_ = finish;
        const bool is_cut = finish.reason == Finish::Reason::length;
        const char* status = is_cut ? "incomplete" : "completed";
        const std::string out = close(status);
        return has_answer_ ? out : join({out, open_message(), close(status)});
    }

    std::string end(const Usage& usage) override {
        const bool is_cut = finish_.reason == Finish::Reason::length;
        usage_ = response_usage(usage);
        const char* status = is_cut ? "incomplete" : "completed";
        return sse(is_cut ? "response.incomplete" : "response.completed", "\"response\":" + response(status));
    }

    std::string fail(const ApiError& error) override {
        error_ = "{\"code\":\"" + failure_code(error) +
                 "\",\"message\":" + json_text(error_message(error, Dialect::openai)) + "}";
        return sse("response.failed", "\"response\":" + response("failed"));
    }

    std::string body(std::span<const Choice> choices, const Usage& usage) override {
        const Choice& choice = choices.front();
        if (!choice.reasoning.empty()) event(0, {Kind::reasoning, choice.reasoning, {}, {}});
        if (!choice.content.empty()) event(0, {Kind::content, choice.content, {}, {}});
        for (const Choice::Call& call : choice.calls) {
            event(0, {Kind::call_begin, call.name, call.id, {}});
            event(0, {Kind::arguments, call.arguments, {}, {}});
            event(0, {Kind::call_end, call.arguments, call.id, {}});
        }
        finish(0, choice.finish);
        usage_ = response_usage(usage);
        return response(finish_.reason == Finish::Reason::length ? "incomplete" : "completed");
    }

  private:
    // ---- frames ----

    std::string sse(const char* type, const std::string& members) {
        if (!is_stream_) return "";
        std::string out = "event: ";
        out.append(type).append("\ndata: {\"type\":\"").append(type).append("\",\"sequence_number\":");
        return out.append(std::to_string(n_events_++)).append(",").append(members).append("}\n\n");
    }

    // An event about the open item.
    std::string item_event(const char* type, const std::string& members) {
        return sse(type, "\"item_id\":\"" + item_.id + "\",\"output_index\":" + std::to_string(n_items_) +
                             "," + members);
    }

    std::string item_frame(const char* type, const std::string& item) {
        return sse(type, "\"output_index\":" + std::to_string(n_items_) + ",\"item\":" + item);
    }

    std::string response(const char* status) const {
        const bool is_cut = std::string_view(status) == "incomplete";
        const bool is_open = std::string_view(status) == "in_progress";
        return "{\"id\":\"" + id_ + "\",\"object\":\"response\",\"created_at\":" + created_ +
               ",\"status\":\"" + status + "\",\"model\":" + json_text(echo_.model) + ",\"output\":[" +
               (is_open ? "" : output_) + "],\"usage\":" + usage_ + ",\"error\":" + error_ +
               ",\"incomplete_details\":" + (is_cut ? R"({"reason":"max_output_tokens"})" : "null") +
               ",\"instructions\":null,\"metadata\":{},\"parallel_tool_calls\":" +
               (echo_.parallel_tool_calls ? "true" : "false") +
               ",\"temperature\":1,\"top_p\":1,\"tool_choice\":\"auto\",\"tools\":[],\"store\":false,"
               "\"previous_response_id\":null,\"reasoning\":{\"effort\":" +
               string_or_null(echo_.effort) + ",\"summary\":" + string_or_null(echo_.summary) +
               "},\"text\":{\"format\":{\"type\":\"text\"}}}";
    }

    // The item is finished: its last event, and its place in the output.
    std::string finish_item(const std::string& json) {
        std::string out = item_frame("response.output_item.done", json);
        output_.append(output_.empty() ? "" : ",").append(json);
        ++n_items_;
        item_ = {};
        return out;
    }

    // Ends reasoning or a message. A call that is still open is forgotten: clients act on what is done.
    std::string close(const char* status) {
        switch (item_.type) {
            case Item::Type::none:
                return "";
            case Item::Type::reasoning:
                return close_reasoning(status);
            case Item::Type::message:
                return close_message(status);
            case Item::Type::call:
                item_ = {};
                return "";
        }
        return "";
    }

    // ---- reasoning ----

    std::string reasoning_item(const char* status, const std::string& summary) const {
        std::string json = "{\"id\":\"" + item_.id + "\",\"type\":\"reasoning\",\"status\":\"" + status +
                           "\",\"summary\":[" + summary + "]";
        if (echo_.has_encrypted_reasoning)
            json += ",\"encrypted_content\":" + json_text(seal_reasoning(item_.text));
        return json + "}";
    }

    std::string add_reasoning(const std::string& text) {
        std::string out;
        if (item_.type != Item::Type::reasoning) {
            out = close("completed");
            item_.type = Item::Type::reasoning;
            item_.id = random_id("rs_", kIdDigits);
            out += item_frame("response.output_item.added", reasoning_item("in_progress", ""));
            out += item_event("response.reasoning_summary_part.added",
                              R"("summary_index":0,"part":{"type":"summary_text","text":""})");
        }
        item_.text += text;
        return out + item_event("response.reasoning_summary_text.delta",
                                "\"summary_index\":0,\"delta\":" + json_text(text));
    }

    std::string close_reasoning(const char* status) {
        const std::string text = json_text(item_.text);
        const std::string part = "{\"type\":\"summary_text\",\"text\":" + text + "}";
        std::string out =
            item_event("response.reasoning_summary_text.done", "\"summary_index\":0,\"text\":" + text);
        out += item_event("response.reasoning_summary_part.done", "\"summary_index\":0,\"part\":" + part);
        return out + finish_item(reasoning_item(status, part));
    }

    // ---- message ----

    std::string message_item(const char* status, const std::string& content) const {
        return "{\"id\":\"" + item_.id + "\",\"type\":\"message\",\"status\":\"" + status +
               "\",\"role\":\"assistant\",\"content\":[" + content + "]}";
    }

    std::string open_message() {
        std::string out = close("completed");
        has_answer_ = true;
        item_.type = Item::Type::message;
        item_.id = random_id("msg_", kIdDigits);
        out += item_frame("response.output_item.added", message_item("in_progress", ""));
        return out +
               item_event("response.content_part.added",
                          R"("content_index":0,"part":{"type":"output_text","text":"","annotations":[]})");
    }

    std::string add_text(const std::string& text) {
        std::string out;
        if (item_.type != Item::Type::message) out = open_message();
        item_.text += text;
        return out + item_event("response.output_text.delta",
                                "\"content_index\":0,\"delta\":" + json_text(text) + ",\"logprobs\":[]");
    }

    std::string close_message(const char* status) {
        const std::string text = json_text(item_.text);
        const std::string part =
            "{\"type\":\"output_text\",\"text\":" + text + ",\"annotations\":[],\"logprobs\":[]}";
        std::string out = item_event("response.output_text.done",
                                     "\"content_index\":0,\"text\":" + text + ",\"logprobs\":[]");
        out += item_event("response.content_part.done", "\"content_index\":0,\"part\":" + part);
        return out + finish_item(message_item(status, part));
    }

    // ---- calls ----

    std::string call_item(const char* status, const std::string& arguments) const {
        std::string json = "{\"id\":\"" + item_.id + "\",\"type\":\"";
        const std::string common =
            "\",\"status\":\"" + std::string(status) + "\",\"call_id\":" + json_text(item_.call_id);
        switch (item_.tool.kind) {
            case ToolKind::function:
                json += "function_call" + common + ",\"name\":" + json_text(item_.tool.name) +
                        ",\"arguments\":" + json_text(arguments);
                break;
            case ToolKind::custom:
                json += "custom_tool_call" + common + ",\"name\":" + json_text(item_.tool.name) +
                        ",\"input\":" + json_text(arguments);
                break;
            case ToolKind::tool_search:
                json += "tool_search_call" + common + ",\"execution\":\"client\",\"arguments\":" + arguments;
                break;
        }
        if (!item_.tool.name_space.empty()) json += ",\"namespace\":" + json_text(item_.tool.name_space);
        return json + "}";
    }

    std::string begin_call(const std::string& prompt_name, const std::string& call_id) {
        const auto known = echo_.tools.find(prompt_name);
        has_answer_ = true;
        item_.type = Item::Type::call;
        item_.tool =
            known == echo_.tools.end() ? ResponsesTool{ToolKind::function, prompt_name, ""} : known->second;
        item_.call_id = call_id;
        const bool is_custom = item_.tool.kind == ToolKind::custom;
        const bool is_search = item_.tool.kind == ToolKind::tool_search;
        item_.id = random_id(is_custom ? "ctc_" : is_search ? "tsc_" : "fc_", kIdDigits);
        return item_frame("response.output_item.added", call_item("in_progress", is_search ? "{}" : ""));
    }

    // Only functions show their arguments as they grow: a custom tool's are inside a JSON string of ours.
    std::string add_arguments(const std::string& text) {
        if (item_.tool.kind != ToolKind::function) return "";
        return item_event("response.function_call_arguments.delta", "\"delta\":" + json_text(text));
    }

    std::string end_call(const std::string& arguments) {
        std::string out, final = arguments;
        if (item_.tool.kind == ToolKind::function) {
            out = item_event(
                "response.function_call_arguments.done",
                "\"name\":" + json_text(item_.tool.name) + ",\"arguments\":" + json_text(arguments));
        } else if (item_.tool.kind == ToolKind::custom) {
            final = custom_input(arguments);
            out = join({item_event("response.custom_tool_call_input.delta", "\"delta\":" + json_text(final)),
                        item_event("response.custom_tool_call_input.done", "\"input\":" + json_text(final))});
        }
        return out + finish_item(call_item("completed", final));
    }

    const ResponsesEcho echo_;
    const std::string id_, created_;
    bool is_stream_ = false;
    std::int64_t n_events_ = 0;
    std::size_t n_items_ = 0;  // finished; the index of the open one
    Item item_;
    std::string output_;  // finished items, JSON
    bool has_answer_ = false;
    Finish finish_;
    std::string usage_ = "null", error_ = "null";
};

}  // namespace

std::unique_ptr<ResponseWriter> make_responses_writer(ResponsesEcho echo) {
    return std::make_unique<ResponsesWriter>(std::move(echo));
}

}  // namespace ds4::server
