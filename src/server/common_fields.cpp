#include "server/common_fields.h"

#include <algorithm>

#include "chat/output_parser.h"

namespace ds4::server {
namespace {

void read_clamped(const Field& field, double low, double high, float& value) {
    if (field) value = static_cast<float>(std::clamp(field.number(), low, high));
}

}  // namespace

std::vector<std::string> read_stops(const Field& field) {
    std::vector<std::string> stops;
    const auto add = [&](const Field& item) {
        const std::string& text = item.string();
        if (text.size() > kMaxStopBytes)
            item.fail("is longer than " + std::to_string(kMaxStopBytes) + " bytes");
        if (!text.empty()) stops.push_back(text);
    };
    if (!field) return stops;
    if (field.is_string()) {
        add(field);
        return stops;
    }
    const auto items = field.items();
    if (items.size() > kMaxStops) field.fail("has more than " + std::to_string(kMaxStops) + " entries");
    std::for_each(items.begin(), items.end(), add);
    return stops;
}

std::int64_t read_max_tokens(const Field& field) {
    if (!field) return 0;
    const std::int64_t n = field.integer();
    if (n < 1) field.fail("must be at least 1");
    return n;
}

void read_sampling(const Field& body, GenerationRequest& request) {
    Sampling& sampling = request.sampling;
    constexpr double smallest_top_p = 1e-6;  // (0, 1]: the best token alone
    read_clamped(body["temperature"], 0, 2, sampling.temperature);
    read_clamped(body["top_p"], smallest_top_p, 1, sampling.top_p);
    read_clamped(body["min_p"], 0, 1, sampling.min_p);
    if (const Field top_k = body["top_k"]) {
        constexpr std::int64_t most = 1 << 30;
        sampling.top_k = static_cast<int>(std::clamp<std::int64_t>(top_k.integer(), 0, most));
    }
    if (const Field seed = body["seed"]) {
        sampling.seed = static_cast<std::uint64_t>(seed.integer());
        request.has_seed = true;
    }
}

int read_choices(const Field& field) {
    if (!field) return 1;
    const std::int64_t n = field.integer();
    if (n < 1 || n > kMaxChoices) field.unsupported("must be 1 to " + std::to_string(kMaxChoices));
    return static_cast<int>(n);
}

// ---- thinking ----

void apply_thinking(const ThinkingWish& wish, chat::RenderOptions& options) {
    using chat::Effort;
    const std::string& effort = wish.effort;
    bool is_on = true;
    if (wish.is_on) {
        is_on = *wish.is_on;
    } else if (!effort.empty()) {
        is_on = effort != "none";
    } else {
        is_on = wish.model != "deepseek-chat";
    }
    options.thinking = is_on ? chat::ThinkingMode::thinking : chat::ThinkingMode::chat;
    options.effort = effort == "minimal" || effort == "low" ? Effort::low
                     : effort == "max" || effort == "ultra" ? Effort::max
                                                            : Effort::high;
}

std::optional<bool> read_thinking_type(const Field& thinking) {
    if (!thinking) return std::nullopt;
    const Field type = thinking.object()["type"];
    const std::string& name = type.string();
    if (name == "enabled" || name == "adaptive") return true;
    if (name != "disabled") type.fail("must be enabled, disabled or adaptive");
    return false;
}

std::optional<std::int64_t> read_budget(const Field& field) {
    if (!field) return std::nullopt;
    const std::int64_t n = field.integer();
    if (n < 0) field.fail("must not be negative");
    return n;
}

// ---- format and tools ----

std::optional<std::string> read_response_format(const Field& format, const Field& schema) {
    if (!format) return std::nullopt;
    const Field type = format.object()["type"];
    const std::string& name = type.string();
    if (name == "text") return std::nullopt;
    if (name == "json_object") return R"({"type": "object"})";
    if (name != "json_schema") type.unsupported("must be text, json_object or json_schema");
    return chat::dump_python(schema.object().json());
}

std::vector<std::string> tool_names(const std::vector<std::string>& schemas) {
    std::vector<std::string> names;
    for (const chat::ToolShape& shape : chat::tool_shapes(schemas)) names.push_back(shape.name);
    return names;
}

void read_openai_tool_choice(const Field& choice, const Field& name, GenerationRequest& request) {
    if (!choice) return;
    if (!choice.is_string()) {
        request.tool_choice = ToolChoice::named;
        request.tool_name = name.string();
        return;
    }
    const std::string& word = choice.string();
    if (word == "none") {
        request.tool_choice = ToolChoice::none;
    } else if (word == "required") {
        request.tool_choice = ToolChoice::required;
    } else if (word != "auto") {
        choice.fail("must be none, auto, required or a function");
    }
}

void check_tool_choice(const Field& choice, const std::vector<std::string>& names,
                       const GenerationRequest& request) {
    const bool is_forced =
        request.tool_choice == ToolChoice::required || request.tool_choice == ToolChoice::named;
    if (is_forced && names.empty()) choice.fail("asks for a call, but there are no tools");
    const bool is_named = request.tool_choice == ToolChoice::named;
    if (is_named && std::find(names.begin(), names.end(), request.tool_name) == names.end()) {
        choice.fail("names '" + request.tool_name + "', which is not among the tools");
    }
}

}  // namespace ds4::server
