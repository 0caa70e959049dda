#include "server/responses_items.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

namespace ds4::server {
namespace {

using chat::Json;
using chat::Message;
using chat::Role;
using Kind = ResponsesTool::Kind;

Json string_json(std::string text) {
    Json json;
    json.kind = Json::Kind::string;
    json.text = std::move(text);
    return json;
}

Json object_json(std::vector<Json::Member> members) {
    Json json;
    json.kind = Json::Kind::object;
    json.members = std::move(members);
    return json;
}

ResponsesTool tool_search() {
    return {Kind::tool_search, "tool_search", ""};
}

// Two underscores, because names often have one.
std::string joined_name(const ResponsesTool& tool) {
    return tool.name_space.empty() ? tool.name : tool.name_space + "__" + tool.name;
}

Json custom_parameters() {
    return chat::parse_json(
        R"({"type":"object","properties":{"input":{"type":"string"}},"required":["input"]})");
}

bool is_one_of(const std::string& name, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::string read_part(const Field& part) {
    if (part.is_string()) return part.string();
    const Field type = part.object()["type"];
    const std::string& name = type.string();
    if (is_one_of(name, {"input_text", "output_text", "text", "summary_text", "reasoning_text"})) {
        return part["text"].string_or("");
    }
    if (name == "refusal") return part["refusal"].string_or("");
    type.unsupported("'" + name + "' is not supported; the model reads text only");
}

std::string read_content(const Field& content, std::string_view separator) {
    if (!content) return {};
    if (content.is_string()) return content.string();
    if (!content.is_array()) content.fail("must be a string or a list of parts");
    std::string text;
    bool is_first = true;
    for (const Field& part : content.items()) {
        if (!std::exchange(is_first, false)) text += separator;
        text += read_part(part);
    }
    return text;
}

// A result may hold pictures; an agent survives them as placeholders.
std::string read_output(const Field& output) {
    if (!output) return {};
    if (output.is_string()) return output.string();
    if (!output.is_array()) return chat::dump_python(output.json());
    std::string text;
    for (const Field& part : output.items()) {
        const Field type = part["type"];
        const bool is_text = part.is_string() || part["text"].is_string();
        if (!text.empty()) text += "\n\n";
        text += is_text ? (part.is_string() ? part.string() : part["text"].string())
                        : "[Unsupported " + (type.is_string() ? type.string() : "part") + "]";
    }
    return text;
}

std::string arguments_text(const Field& arguments) {
    if (!arguments) return {};
    return arguments.is_string() ? arguments.string() : chat::dump_python(arguments.json());
}

// ---- items ----

class ItemReader {
  public:
    explicit ItemReader(ResponsesTools& tools) : tools_(tools) {}

    std::vector<Message> read(const Field& input) {
        for (const Field& item : input.items()) read_item(item.object());
        if (held_reasoning_) assistant();
        return std::move(messages_);
    }

  private:
    void read_item(const Field& item) {
        const std::string type = item["type"].string_or("message");
        if (type == "message") return read_message(item);
        if (type == "reasoning") return read_reasoning(item);
        if (type == "function_call") {
            return add_call(item, tools_.prompt_name(tool_of(item, Kind::function)),
                            arguments_text(item["arguments"]));
        }
        if (type == "custom_tool_call") {
            const Json input = object_json({{"input", string_json(item["input"].string_or(""))}});
            return add_call(item, tools_.prompt_name(tool_of(item, Kind::custom)), chat::dump_python(input));
        }
        if (type == "tool_search_call")
            return add_call(item, tools_.prompt_name(tool_search()), arguments_text(item["arguments"]));
        if (type == "local_shell_call") return add_call(item, "local_shell", arguments_text(item["action"]));
        if (is_one_of(type, {"web_search_call", "image_generation_call"}))
            return;  // the vendor's servers ran them
        if (type == "tool_search_output") return add_found_tools(item);
        if (type.ends_with("_output")) return add_result(item, read_output(item["output"]));
        if (type.starts_with("compaction")) return;
        item["type"].fail("is '" + type + "', which is no known item of input");
    }

    void read_message(const Field& item) {
        const Field role = item["role"];
        const std::string& name = role.string();
        if (name == "assistant") {
            assistant().content += read_content(item["content"], "");
        } else if (is_one_of(name, {"user", "system", "developer"})) {
            add(name == "user" ? Role::user : Role::system, read_content(item["content"], "\n\n"));
        } else {
            role.fail("is '" + name + "', expected user, assistant, system or developer");
        }
    }

    // Held until it is known whose it is.
    void read_reasoning(const Field& item) {
        std::string text = read_content(item["content"], "");
        if (text.empty()) text = read_content(item["summary"], "");
        if (item["encrypted_content"].is_string()) {
            if (auto ours = unseal_reasoning(item["encrypted_content"].string())) text = std::move(*ours);
        }
        held_reasoning_ = held_reasoning_.value_or("") + text;
    }

    void add_call(const Field& item, std::string name, std::string arguments) {
        const Field id = item["call_id"] ? item["call_id"] : item["id"];
        assistant().tool_calls.push_back({id.string_or(""), std::move(name), std::move(arguments)});
        known_calls_.insert(id.string_or(""));
    }

    static ResponsesTool tool_of(const Field& call, Kind kind) {
        return {kind, call["name"].string(), call["namespace"].string_or("")};
    }

    // Their schemas go to the head of the prompt, their names to where they were found.
    void add_found_tools(const Field& item) {
        Json names;
        names.kind = Json::Kind::array;
        for (std::string& name : tools_.add(item["tools"]))
            names.items.push_back(string_json(std::move(name)));
        add_result(item, chat::dump_python(names));
    }

    void add_result(const Field& item, std::string text) {
        // A local shell's output has its call's id under another name.
        const Field id = item["call_id"] || !item["id"] ? item["call_id"] : item["id"];
        if (!known_calls_.contains(id.string())) {
            id.fail("names '" + id.string() + "', but no earlier item is that call; send the full input");
        }
        add(Role::tool, std::move(text));
        messages_.back().tool_call_id = id.string();
    }

    void add(Role role, std::string text) {
        if (held_reasoning_) assistant();  // a turn that only thought
        Message& message = messages_.emplace_back();
        message.role = role;
        message.content = std::move(text);
    }

    // The assistant turn that the next item belongs to.
    Message& assistant() {
        if (messages_.empty() || messages_.back().role != Role::assistant) {
            messages_.emplace_back().role = Role::assistant;
        }
        Message& turn = messages_.back();
        if (held_reasoning_)
            turn.reasoning = turn.reasoning.value_or("") + *std::exchange(held_reasoning_, std::nullopt);
        return turn;
    }

    ResponsesTools& tools_;
    std::vector<Message> messages_;
    std::optional<std::string> held_reasoning_;
    std::set<std::string> known_calls_;
};

}  // namespace

// ---- tools ----

std::vector<std::string> ResponsesTools::add(const Field& list, const std::string& name_space) {
    std::vector<std::string> names;
    for (const Field& tool : list.items()) {
        const std::string type = tool.object()["type"].string_or("function");
        const Field name = tool["name"];
        if (type == "namespace") {
            for (std::string& inner : add(tool["tools"], name.string())) names.push_back(std::move(inner));
        } else if (type == "function" || type == "custom") {
            if (name.string().empty()) name.fail("is empty");
            const Kind kind = type == "custom" ? Kind::custom : Kind::function;
            names.push_back(add_tool({kind, name.string(), name_space}, tool));
        } else if (type == "tool_search") {
            names.push_back(add_tool(tool_search(), tool));
        }
    }
    return names;
}

std::string ResponsesTools::add_tool(ResponsesTool tool, const Field& declaration) {
    // Searches find a tool again and again; it stays what it was.
    for (const auto& [known, other] : by_prompt_name_) {
        if (other == tool) return known;
    }
    std::string name = joined_name(tool);
    while (by_prompt_name_.contains(name)) name += '_';
    std::vector<Json::Member> members = {{"name", string_json(name)}};
    if (const Field text = declaration["description"])
        members.push_back({"description", string_json(text.string())});
    if (tool.kind == Kind::custom) {
        members.push_back({"parameters", custom_parameters()});
    } else if (const Field parameters = declaration["parameters"]) {
        members.push_back({"parameters", parameters.object().json()});
    }
    if (const Field strict = declaration["strict"]) {
        (void)strict.boolean();
        members.push_back({"strict", strict.json()});
    }
    schemas_.push_back(chat::dump_python(object_json(std::move(members))));
    by_prompt_name_.emplace(name, std::move(tool));
    return name;
}

std::string ResponsesTools::prompt_name(const ResponsesTool& tool) const {
    std::string name = joined_name(tool);
    for (const auto& [known, other] : by_prompt_name_) {
        if (other == tool) return known;
        // Declared as another kind than it was called as; an exact match may still come.
        if (other.name == tool.name && other.name_space == tool.name_space) name = known;
    }
    return name;
}

std::vector<Message> read_items(const Field& input, ResponsesTools& tools) {
    return ItemReader(tools).read(input);
}

}  // namespace ds4::server
