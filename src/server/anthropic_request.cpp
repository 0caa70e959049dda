#include <algorithm>
#include <set>
#include <utility>

#include "server/anthropic_messages.h"
#include "server/common_fields.h"

namespace ds4::server {
namespace {

using chat::Message;
using chat::Role;

constexpr const char* kDefaultModel = "deepseek-v4-flash";

// Claude Code puts a line about its build there; it would change the prompt with every update.
constexpr std::string_view kClientMetadata = "x-anthropic-";

void append_paragraph(std::string& text, const std::string& more) {
    if (!text.empty() && !more.empty()) text += "\n\n";
    text += more;
}

const std::string& type_of(const Field& block) {
    return block.object()["type"].string();
}

bool is_media(const std::string& type) {
    return type == "image" || type == "document" || type == "container_upload";
}

void refuse_media(const Field& block) {
    const Field type = block["type"];
    if (is_media(type.string()))
        type.unsupported("'" + type.string() + "' is not supported; the model reads text only");
}

// ---- messages ----

class MessageReader {
  public:
    std::vector<Message> read(const Field& list) {
        if (!list.is_array() || list.items().empty()) list.fail("must be a non-empty array");
        for (const Field& message : list.items()) read_message(message.object());
        finish_last(list);
        return std::move(messages_);
    }

  private:
    void read_message(const Field& message) {
        const Field role = message["role"], content = message["content"];
        const std::string& name = role.string();
        if (name == "user") {
            read_user(content);
        } else if (name == "assistant") {
            read_assistant(content);
        } else if (name == "system") {
            // In the middle of a conversation, from Claude Code.
            add_text(Role::system, read_system_text(content));
        } else {
            role.fail("is '" + name + "', expected user, assistant or system");
        }
    }

    static std::string read_system_text(const Field& content) {
        if (content.is_string()) return content.string();
        if (!content.is_array()) content.fail("must be a string or a list of blocks");
        std::string text;
        for (const Field& block : content.items()) {
            if (type_of(block) == "text") {
                const std::string& part = block["text"].string();
                if (!part.starts_with(kClientMetadata)) append_paragraph(text, part);
            } else {
                refuse_media(block);
            }
        }
        return text;
    }

    void add_text(Role role, std::string text) {
        Message& message = messages_.emplace_back();
        message.role = role;
        message.content = std::move(text);
    }

    // Results and text in their order; text between results stays one paragraph each.
    void read_user(const Field& content) {
        if (content.is_string()) return add_text(Role::user, content.string());
        if (!content.is_array()) content.fail("must be a string or a list of blocks");
        std::string text;
        const auto flush = [&] {
            if (!text.empty()) add_text(Role::user, std::exchange(text, {}));
        };
        const std::size_t n_before = messages_.size();
        for (const Field& block : content.items()) {
            const std::string& type = type_of(block);
            if (type == "text") {
                append_paragraph(text, block["text"].string());
            } else if (type == "tool_result") {
                flush();
                read_result(block);
            } else {
                refuse_media(block);
            }
        }
        flush();
        if (messages_.size() == n_before) add_text(Role::user, "");
    }

    void read_result(const Field& block) {
        const Field id = block["tool_use_id"];
        if (!known_calls_.contains(id.string())) {
            id.fail("names '" + id.string() +
                    "', but no earlier message has that tool_use; send the full conversation");
        }
        Message& message = messages_.emplace_back();
        message.role = Role::tool;
        message.tool_call_id = id.string();
        message.content = read_result_text(block["content"]);
    }

    static std::string read_result_text(const Field& content) {
        if (!content) return {};
        if (content.is_string()) return content.string();
        std::string text;
        for (const Field& part : content.items()) {
            const std::string& type = type_of(part);
            append_paragraph(text, type == "text" ? part["text"].string() : "[Unsupported " + type + "]");
        }
        return text;
    }

    void read_assistant(const Field& content) {
        Message& message = messages_.emplace_back();
        message.role = Role::assistant;
        if (content.is_string()) {
            message.content = content.string();
            return;
        }
        if (!content.is_array()) content.fail("must be a string or a list of blocks");
        for (const Field& block : content.items()) {
            const std::string& type = type_of(block);
            if (type == "text") {
                message.content += block["text"].string();
            } else if (type == "thinking") {
                message.reasoning = message.reasoning.value_or("") + block["thinking"].string();
            } else if (type == "tool_use") {
                const Field input = block["input"];
                message.tool_calls.push_back({block["id"].string(), block["name"].string(),
                                              input ? chat::dump_python(input.json()) : std::string()});
                known_calls_.insert(message.tool_calls.back().id);
            } else {
                refuse_media(block);
            }
        }
    }

    // A final assistant message is the beginning of the answer. White space at its end is not a token
    // boundary the model knows.
    void finish_last(const Field& list) {
        Message& last = messages_.back();
        if (last.role != Role::assistant) return;
        if (!last.tool_calls.empty()) list.fail("end in a tool_use, which needs its tool_result");
        last.content.erase(last.content.find_last_not_of(" \t\r\n") + 1);
        last.is_prefix = true;
    }

    std::vector<Message> messages_;
    std::set<std::string> known_calls_;
};

std::string read_system(const Field& system) {
    if (!system) return {};
    if (system.is_string()) return system.string();
    std::string text;
    bool is_first = true;
    for (const Field& block : system.items()) {
        if (type_of(block) != "text") continue;
        const std::string& part = block["text"].string();
        if (part.starts_with(kClientMetadata)) continue;
        if (!is_first) text += '\n';
        text += part;
        is_first = false;
    }
    return text;
}

// ---- tools ----

// Tools of Anthropic's own servers (web_search_2025...) have a type and no schema.
bool is_server_tool(const Field& tool) {
    const Field type = tool["type"];
    return type.is_string() && type.string() != "custom" && !tool["input_schema"];
}

std::vector<std::string> read_tools(const Field& list) {
    using Kind = chat::Json::Kind;
    std::vector<std::string> tools;
    for (const Field& tool : list.items()) {
        if (is_server_tool(tool.object())) continue;
        if (tool["name"].string().empty()) tool["name"].fail("is empty");
        chat::Json function;
        function.kind = Kind::object;
        function.members.push_back({"name", tool["name"].json()});
        if (const Field text = tool["description"]) {
            (void)text.string();
            function.members.push_back({"description", text.json()});
        }
        function.members.push_back({"parameters", tool["input_schema"].object().json()});
        tools.push_back(chat::dump_python(function));
    }
    return tools;
}

void read_tool_choice(const Field& choice, GenerationRequest& request) {
    if (!choice) return;
    const Field type = choice.object()["type"];
    const std::string& name = type.string();
    if (name == "none") {
        request.tool_choice = ToolChoice::none;
    } else if (name == "any") {
        request.tool_choice = ToolChoice::required;
    } else if (name == "tool") {
        request.tool_choice = ToolChoice::named;
        request.tool_name = choice["name"].string();
    } else if (name != "auto") {
        type.fail("must be auto, any, tool or none");
    }
    request.parallel_tool_calls = !choice["disable_parallel_tool_use"].boolean_or(false);
}

void read_thinking(const Field& body, GenerationRequest& request) {
    ThinkingWish wish;
    wish.is_on = read_thinking_type(body["thinking"]);
    const Field output = body["output_config"];
    if (output) output.object();
    wish.effort = output["effort"].string_or("");
    wish.model = body["model"].string_or("");
    apply_thinking(wish, request.conversation.options);
    request.thinking_budget = read_budget(body["thinking"]["budget_tokens"]);
}

}  // namespace

GenerationRequest parse_count_tokens(const chat::Json& json) {
    const Field body = Field::body(json);
    GenerationRequest request;
    request.call_id_prefix = "toolu_";
    chat::Conversation& conversation = request.conversation;
    conversation.messages = MessageReader().read(body["messages"]);
    if (std::string system = read_system(body["system"]); !system.empty()) {
        Message message;
        message.role = Role::system;
        message.content = std::move(system);
        conversation.messages.insert(conversation.messages.begin(), std::move(message));
    }
    conversation.tools = read_tools(body["tools"]);
    read_tool_choice(body["tool_choice"], request);
    if (request.tool_choice == ToolChoice::none) conversation.tools.clear();
    check_tool_choice(body["tool_choice"], tool_names(conversation.tools), request);
    read_thinking(body, request);
    return request;
}

Exchange parse_anthropic_messages(const chat::Json& json) {
    const Field body = Field::body(json);
    Exchange exchange;
    exchange.request = parse_count_tokens(json);
    GenerationRequest& request = exchange.request;
    request.stream = body["stream"].boolean_or(false);
    request.max_tokens = read_max_tokens(body["max_tokens"]);
    read_sampling(body, request);
    request.stop = read_stops(body["stop_sequences"]);
    exchange.writer = make_anthropic_writer(body["model"].string_or(kDefaultModel));
    return exchange;
}

}  // namespace ds4::server
