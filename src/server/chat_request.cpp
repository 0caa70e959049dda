#include "server/chat_completions.h"
#include "server/common_fields.h"

namespace ds4::server {
namespace {

constexpr const char* kDefaultModel = "deepseek-v4-flash";

// The model sees text only. In a tool's result a picture becomes a placeholder, so that an agent survives it.
void refuse_other_media(const Field& messages) {
    for (const Field& message : messages.items()) {
        const Field role = message["role"], content = message["content"];
        const bool is_result = role.is_string() && (role.string() == "tool" || role.string() == "function");
        if (is_result || !content.is_array()) continue;
        for (const Field& part : content.items()) {
            const Field type = part["type"];
            if (!type.is_string()) continue;
            const std::string& name = type.string();
            const bool is_text =
                name == "text" || name == "input_text" || name == "output_text" || name == "refusal";
            if (!is_text) type.unsupported("'" + name + "' is not supported; the model reads text only");
        }
    }
}

std::optional<bool> read_switches(const Field& body) {
    if (const auto type = read_thinking_type(body["thinking"])) return type;
    const Field kwargs = body["chat_template_kwargs"];
    for (const Field& field :
         {body["think"], body["enable_thinking"], kwargs["thinking"], kwargs["enable_thinking"]}) {
        if (field) return field.boolean();
    }
    return std::nullopt;
}

void read_thinking(const Field& body, const std::string& model, GenerationRequest& request) {
    ThinkingWish wish;
    wish.is_on = read_switches(body);
    wish.effort = body["reasoning_effort"] ? body["reasoning_effort"].string()
                                           : body["reasoning"]["effort"].string_or("");
    wish.model = model;
    apply_thinking(wish, request.conversation.options);
    request.thinking_budget = read_budget(body["thinking"]["budget_tokens"]);
    if (!request.thinking_budget) request.thinking_budget = read_budget(body["reasoning"]["max_tokens"]);
}

void read_logprobs(const Field& body, GenerationRequest& request) {
    const Field top = body["top_logprobs"];
    const bool is_wanted = body["logprobs"].boolean_or(false);
    if (is_wanted) request.top_logprobs = 0;
    if (!top) return;
    const std::int64_t n = top.integer();
    if (n < 0 || n > kMaxTopLogprobs) top.fail("must be 0 to " + std::to_string(kMaxTopLogprobs));
    if (!is_wanted) top.fail("needs logprobs: true");
    request.top_logprobs = static_cast<int>(n);
}

}  // namespace

Exchange parse_chat_completions(const chat::Json& json) {
    const Field body = Field::body(json);
    Exchange exchange;
    GenerationRequest& request = exchange.request;
    const Field messages = body["messages"];
    if (!messages.is_array() || messages.items().empty()) messages.fail("must be a non-empty array");
    refuse_other_media(messages);
    request.conversation = naming_fields([&] { return chat::parse_request(json); });

    ChatEcho echo;
    echo.model = body["model"].string_or(kDefaultModel);
    read_thinking(body, echo.model, request);
    const Field choice = body["tool_choice"];
    read_openai_tool_choice(choice, choice["function"]["name"], request);
    if (request.tool_choice != ToolChoice::none) {
        check_tool_choice(choice, tool_names(request.conversation.tools), request);
    }
    request.parallel_tool_calls = body["parallel_tool_calls"].boolean_or(true);

    request.stream = body["stream"].boolean_or(false);
    const Field most = body["max_completion_tokens"] ? body["max_completion_tokens"] : body["max_tokens"];
    request.max_tokens = read_max_tokens(most);
    read_sampling(body, request);
    request.stop = read_stops(body["stop"]);
    request.n_choices = read_choices(body["n"]);
    read_logprobs(body, request);

    echo.include_usage = body["stream_options"]["include_usage"].boolean_or(false);
    echo.has_logprobs = request.top_logprobs.has_value();
    exchange.writer = make_chat_writer(std::move(echo));
    return exchange;
}

}  // namespace ds4::server
