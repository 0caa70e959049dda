#include "server/common_fields.h"
#include "server/responses.h"
#include "server/responses_items.h"

namespace ds4::server {
namespace {

constexpr const char* kDefaultModel = "deepseek-v4-flash";
constexpr std::string_view kSeal = "ds4-reasoning:";

std::vector<chat::Message> read_messages(const Field& body, ResponsesTools& tools) {
    const Field input = body["input"];
    std::vector<chat::Message> messages;
    if (const std::string instructions = body["instructions"].string_or(""); !instructions.empty()) {
        messages.emplace_back().role = chat::Role::system;
        messages.back().content = instructions;
    }
    if (input.is_string()) {
        messages.emplace_back().content = input.string();
        return messages;
    }
    if (!input.is_array() || input.items().empty()) input.fail("must be a string or a non-empty array");
    for (chat::Message& message : read_items(input, tools)) messages.push_back(std::move(message));
    return messages;
}

void refuse_stored_state(const Field& body) {
    for (const char* name : {"previous_response_id", "conversation"}) {
        if (body[name]) body[name].unsupported("responses are not stored here; send the full input");
    }
    if (body["background"].boolean_or(false)) body["background"].unsupported("is not supported");
}

void read_tool_choice(const Field& choice, const ResponsesTools& tools, GenerationRequest& request) {
    if (choice.is_object() && choice["type"].is_string() && choice["type"].string() == "allowed_tools") {
        return read_openai_tool_choice(choice["mode"], choice["mode"], request);
    }
    read_openai_tool_choice(choice, choice["name"], request);
    if (request.tool_choice == ToolChoice::named) {
        const bool is_custom = choice["type"].is_string() && choice["type"].string() == "custom";
        const auto kind = is_custom ? ResponsesTool::Kind::custom : ResponsesTool::Kind::function;
        request.tool_name = tools.prompt_name({kind, request.tool_name, choice["namespace"].string_or("")});
    }
}

void read_reasoning(const Field& body, GenerationRequest& request, ResponsesEcho& echo) {
    const Field reasoning = body["reasoning"];
    if (reasoning) reasoning.object();
    echo.effort = reasoning["effort"].string_or("");
    echo.summary = reasoning["summary"].string_or("");
    if (echo.summary == "none") echo.summary.clear();
    apply_thinking({std::nullopt, echo.effort, echo.model}, request.conversation.options);
    request.thinking_budget = read_budget(reasoning["max_tokens"]);
    const Field include = body["include"];
    if (!include.is_array()) return;  // no other part of it means anything here
    for (const Field& item : include.items()) {
        if (item.is_string() && item.string() == "reasoning.encrypted_content")
            echo.has_encrypted_reasoning = true;
    }
}

}  // namespace

std::string seal_reasoning(const std::string& text) {
    return std::string(kSeal) + text;
}

std::optional<std::string> unseal_reasoning(const std::string& sealed) {
    if (!sealed.starts_with(kSeal)) return std::nullopt;
    return sealed.substr(kSeal.size());
}

Exchange parse_responses(const chat::Json& json) {
    const Field body = Field::body(json);
    Exchange exchange;
    GenerationRequest& request = exchange.request;
    request.prompt_field = "input";
    refuse_stored_state(body);

    ResponsesEcho echo;
    echo.model = body["model"].string_or(kDefaultModel);
    ResponsesTools tools;
    tools.add(body["tools"]);
    request.conversation.messages = read_messages(body, tools);
    read_tool_choice(body["tool_choice"], tools, request);
    if (request.tool_choice != ToolChoice::none) request.conversation.tools = tools.schemas();
    check_tool_choice(body["tool_choice"], tool_names(request.conversation.tools), request);
    const Field text = body["text"], format = text["format"];
    if (text) text.object();
    request.conversation.response_schema = read_response_format(format, format["schema"]);
    read_reasoning(body, request, echo);
    request.client_keeps_reasoning = echo.has_encrypted_reasoning;

    request.parallel_tool_calls = echo.parallel_tool_calls = body["parallel_tool_calls"].boolean_or(true);
    request.stream = body["stream"].boolean_or(false);
    request.max_tokens = read_max_tokens(body["max_output_tokens"]);
    read_sampling(body, request);
    echo.tools = tools.by_prompt_name();
    exchange.writer = make_responses_writer(std::move(echo));
    return exchange;
}

}  // namespace ds4::server
