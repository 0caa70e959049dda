#include "chat/messages.h"

#include <array>

namespace ds4::chat {
namespace {

using Kind = Json::Kind;

[[noreturn]] void fail(const std::string& field, const std::string& what) {
    throw FieldError(field, what);
}

std::string indexed(const std::string& list, std::size_t i) {
    return list + "[" + std::to_string(i) + "]";
}

const std::string& require_string(const Json& value, const std::string& field) {
    if (!value.is(Kind::string)) fail(field, "must be a string");
    return value.text;
}

std::string string_or_empty(const Json& object, std::string_view key, const std::string& where) {
    const Json* value = object.find(key);
    return value == nullptr ? std::string() : require_string(*value, where + "." + std::string(key));
}

std::optional<bool> find_bool(const Json& object, std::string_view key, const std::string& where = "") {
    const Json* value = object.find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is(Kind::boolean)) fail(where + std::string(key), "must be true or false");
    return value->truth;
}

const std::vector<Json>* find_list(const Json& object, std::string_view key, const std::string& field) {
    const Json* value = object.find(key);
    if (value == nullptr) return nullptr;
    if (!value->is(Kind::array)) fail(field, "must be a list");
    return &value->items;
}

template <class T, std::size_t n>
using Names = std::array<std::pair<std::string_view, T>, n>;

template <class T, std::size_t n>
T pick(const Names<T, n>& names, const std::string& name, const std::string& field) {
    std::string expected;
    for (const auto& [known, value] : names) {
        if (known == name) return value;
        expected.append(expected.empty() ? "" : ", ").append(known);
    }
    fail(field, "is '" + name + "', expected one of " + expected);
}

constexpr Names<Role, 7> roles = {{{"system", Role::system},
                                   {"developer", Role::developer},
                                   {"user", Role::user},
                                   {"assistant", Role::assistant},
                                   {"tool", Role::tool},
                                   {"function", Role::tool},
                                   {"latest_reminder", Role::latest_reminder}}};

constexpr Names<Task, 6> tasks = {{{"action", Task::action},
                                   {"query", Task::query},
                                   {"authority", Task::authority},
                                   {"domain", Task::domain},
                                   {"title", Task::title},
                                   {"read_url", Task::read_url}}};

constexpr Names<ThinkingMode, 2> thinking_modes = {
    {{"chat", ThinkingMode::chat}, {"thinking", ThinkingMode::thinking}}};

constexpr Names<EffortScheme, 2> effort_schemes = {
    {{"2026-04", EffortScheme::release_2026_04}, {"0731", EffortScheme::release_0731}}};

// ---- messages ----

bool is_text_part(const std::string& type) {
    return type == "text" || type == "input_text" || type == "output_text" || type == "refusal";
}

std::string part_text(const Json& part, const std::string& field) {
    if (part.is(Kind::string)) return part.text;
    if (!part.is(Kind::object)) fail(field, "must be a content part");
    const Json* type_value = part.find("type");
    if (type_value == nullptr) fail(field + ".type", "is missing");
    const std::string& type = require_string(*type_value, field + ".type");
    if (!is_text_part(type)) return "[Unsupported " + type + "]";
    return string_or_empty(part, type == "refusal" ? "refusal" : "text", field);
}

// Blocks that Claude Code adds to its system text as metadata; they change with every build (prompt.md 2.2).
bool is_client_metadata(Role role, const std::string& text) {
    return role == Role::system && text.starts_with("x-anthropic-");
}

std::string join_content(const Json* content, Role role, const std::string& field) {
    if (content == nullptr) return {};
    if (content->is(Kind::string)) return content->text;
    if (!content->is(Kind::array)) fail(field, "must be a string or a list of parts");
    const std::string_view separator = role == Role::assistant ? "" : "\n\n";
    std::string joined;
    bool is_first = true;
    for (std::size_t i = 0; i < content->items.size(); ++i) {
        const std::string text = part_text(content->items[i], indexed(field, i));
        if (is_client_metadata(role, text)) continue;
        if (!is_first) joined += separator;
        joined += text;
        is_first = false;
    }
    return joined;
}

std::string read_arguments(const Json* arguments) {
    if (arguments == nullptr) return {};
    return arguments->is(Kind::string) ? arguments->text : dump_python(*arguments);
}

ToolCall read_tool_call(const Json& call, const std::string& field) {
    if (!call.is(Kind::object)) fail(field, "must be an object");
    const Json* function = call.find("function");
    if (function == nullptr || !function->is(Kind::object)) fail(field + ".function", "must be an object");
    const Json* name = function->find("name");
    if (name == nullptr) fail(field + ".function.name", "is missing");
    return {.id = string_or_empty(call, "id", field),
            .name = require_string(*name, field + ".function.name"),
            .arguments = read_arguments(function->find("arguments"))};
}

// One tool in the shape of OpenAI ({"function": {...}}) or Anthropic ({"name", "input_schema"}).
std::string read_tool(const Json& tool, const std::string& field) {
    if (const Json* function = tool.find("function")) {
        if (!function->is(Kind::object)) fail(field + ".function", "must be an object");
        const Json* name = function->find("name");
        if (name == nullptr) fail(field + ".function.name", "is missing");
        if (require_string(*name, field + ".function.name").empty())
            fail(field + ".function.name", "is empty");
        return dump_python(*function);
    }
    const Json* name = tool.find("name");
    const Json* schema = tool.find("input_schema");
    if (name == nullptr || schema == nullptr) fail(field + ".function", "is missing");
    Json function;
    function.kind = Kind::object;
    function.members.push_back({"name", *name});
    if (const Json* description = tool.find("description"))
        function.members.push_back({"description", *description});
    function.members.push_back({"parameters", *schema});
    return dump_python(function);
}

std::vector<std::string> read_tools(const Json& object, const std::string& field) {
    std::vector<std::string> tools;
    const std::vector<Json>* list = find_list(object, "tools", field);
    if (list == nullptr) return tools;
    for (std::size_t i = 0; i < list->size(); ++i) {
        const Json& tool = (*list)[i];
        const Json* type = tool.find("type");
        const bool is_other = type != nullptr && type->text != "function" && tool.find("function") == nullptr;
        if (!is_other) tools.push_back(read_tool(tool, indexed(field, i)));
    }
    return tools;
}

Message read_message(const Json& json, const std::string& field) {
    if (!json.is(Kind::object)) fail(field, "must be an object");
    const Json* role = json.find("role");
    if (role == nullptr) fail(field + ".role", "is missing");
    Message message;
    message.role = pick(roles, require_string(*role, field + ".role"), field + ".role");
    message.content = join_content(json.find("content"), message.role, field + ".content");
    for (const char* key : {"reasoning_content", "reasoning"}) {
        const Json* reasoning = json.find(key);
        if (reasoning != nullptr && !message.reasoning) {
            message.reasoning = require_string(*reasoning, field + "." + key);
        }
    }
    if (const std::vector<Json>* calls = find_list(json, "tool_calls", field + ".tool_calls")) {
        for (std::size_t i = 0; i < calls->size(); ++i) {
            message.tool_calls.push_back(read_tool_call((*calls)[i], indexed(field + ".tool_calls", i)));
        }
    }
    message.tool_call_id = string_or_empty(json, "tool_call_id", field);
    if (const Json* task = json.find("task")) {
        message.task = pick(tasks, require_string(*task, field + ".task"), field + ".task");
    }
    message.is_prefix = find_bool(json, "wo_eos", field + ".").value_or(false) ||
                        find_bool(json, "prefix", field + ".").value_or(false);
    message.tools = read_tools(json, field + ".tools");
    if (const Json* schema = json.find("response_format")) message.response_schema = dump_python(*schema);
    return message;
}

std::vector<Message> read_messages(const Json& list) {
    if (!list.is(Kind::array)) fail("messages", "must be a list");
    if (list.items.empty()) fail("messages", "is empty");
    std::vector<Message> messages;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
        messages.push_back(read_message(list.items[i], indexed("messages", i)));
    }
    return messages;
}

// ---- options ----

// Names of api.md 5; an unknown one means the default.
void apply_effort(const Json* effort, const std::string& field, bool may_switch_thinking,
                  RenderOptions& options) {
    if (effort == nullptr) return;
    const std::string& name = require_string(*effort, field);
    if (name == "none") {
        if (may_switch_thinking) options.thinking = ThinkingMode::chat;
    } else if (name == "minimal" || name == "low") {
        options.effort = Effort::low;
    } else {
        options.effort = name == "max" || name == "ultra" ? Effort::max : Effort::high;
    }
}

std::optional<bool> explicit_thinking(const Json& request) {
    if (const Json* thinking = request.find("thinking")) {
        const Json* type = thinking->find("type");
        if (type == nullptr) fail("thinking.type", "is missing");
        const Names<bool, 3> types = {{{"enabled", true}, {"disabled", false}, {"adaptive", true}}};
        return pick(types, require_string(*type, "thinking.type"), "thinking.type");
    }
    if (const auto think = find_bool(request, "think")) return think;
    return find_bool(request, "enable_thinking");
}

// Precedence of prompt.md 4.
void apply_request_options(const Json& request, RenderOptions& options) {
    const auto is_thinking = explicit_thinking(request);
    if (is_thinking) options.thinking = *is_thinking ? ThinkingMode::thinking : ThinkingMode::chat;
    apply_effort(request.find("reasoning_effort"), "reasoning_effort", !is_thinking, options);
}

void apply_test_options(const Json& json, RenderOptions& options) {
    if (!json.is(Kind::object)) fail("options", "must be an object");
    const Json* mode = json.find("thinking_mode");
    if (mode != nullptr) {
        const std::string field = "options.thinking_mode";
        options.thinking = pick(thinking_modes, require_string(*mode, field), field);
    }
    apply_effort(json.find("reasoning_effort"), "options.reasoning_effort", mode == nullptr, options);
    if (const Json* scheme = json.find("effort_scheme")) {
        const std::string field = "options.effort_scheme";
        options.effort_scheme = pick(effort_schemes, require_string(*scheme, field), field);
    }
    options.drop_thinking = find_bool(json, "drop_thinking", "options.").value_or(options.drop_thinking);
    options.tools_first = find_bool(json, "tools_first", "options.").value_or(options.tools_first);
    const auto vendor_exact = find_bool(json, "vendor_exact", "options.");
    if (vendor_exact) options.behaviour = *vendor_exact ? Behaviour::vendor_exact : Behaviour::recommended;
}

// The response_format of a request; that of a message is the schema itself.
std::optional<std::string> read_response_format(const Json& request) {
    const Json* format = request.find("response_format");
    if (format == nullptr) return std::nullopt;
    const Json* type = format->find("type");
    if (type == nullptr) fail("response_format.type", "is missing");
    enum class Format { text, object, schema };
    const Names<Format, 3> formats = {
        {{"text", Format::text}, {"json_object", Format::object}, {"json_schema", Format::schema}}};
    switch (pick(formats, require_string(*type, "response_format.type"), "response_format.type")) {
        case Format::text:
            return std::nullopt;
        case Format::object:
            return R"({"type": "object"})";
        case Format::schema:
            break;
    }
    const Json* wrapper = format->find("json_schema");
    const Json* schema = wrapper == nullptr ? nullptr : wrapper->find("schema");
    if (schema == nullptr) fail("response_format.json_schema.schema", "is missing");
    return dump_python(*schema);
}

bool hides_tools(const Json& request) {
    const Json* choice = request.find("tool_choice");
    return choice != nullptr && choice->is(Kind::string) && choice->text == "none";
}

}  // namespace

Conversation parse_request(const Json& request) {
    Conversation conversation;
    if (request.is(Kind::array)) {
        conversation.messages = read_messages(request);
        return conversation;
    }
    if (!request.is(Kind::object)) fail("the request", "must be an object or a list of messages");
    const Json* messages = request.find("messages");
    if (messages == nullptr) fail("messages", "is missing");
    conversation.messages = read_messages(*messages);
    conversation.tools = read_tools(request, "tools");
    if (hides_tools(request)) conversation.tools.clear();
    conversation.response_schema = read_response_format(request);
    apply_request_options(request, conversation.options);
    if (const Json* options = request.find("options")) apply_test_options(*options, conversation.options);
    Message& last = conversation.messages.back();
    if (find_bool(request, "continue_final_message").value_or(false) && last.role == Role::assistant) {
        last.is_prefix = true;
    }
    return conversation;
}

Conversation parse_request(std::string_view json) {
    return parse_request(parse_json(json));
}

}  // namespace ds4::chat
