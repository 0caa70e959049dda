#include "chat/render.h"

#include <array>
#include <utility>

#include "chat/json_style.h"
#include "chat/preprocess.h"
#include "chat/protocol.h"
#include "chat/tool_memory.h"
#include "ds4/error.h"

namespace ds4::chat {
namespace {

constexpr std::int64_t min_context_for_max_effort = 393216;

// What the protocol's own texts and sampled call blocks may hold.
constexpr std::array control_tokens = {protocol::dsml, protocol::think, protocol::end_think};

std::string_view effort_prefix(const RenderOptions& options) {
    if (options.effort_scheme == EffortScheme::release_2026_04) {
        return options.effort == Effort::max ? protocol::effort_exhaustive : "";
    }
    switch (options.effort) {
        case Effort::low:
            return "";
        case Effort::high:
            return protocol::effort_exhaustive;
        case Effort::max:
            return protocol::effort_beyond;
    }
    return "";
}

std::string_view task_token(Task task) {
    switch (task) {
        case Task::action:
            return protocol::task_action;
        case Task::query:
            return protocol::task_query;
        case Task::authority:
            return protocol::task_authority;
        case Task::domain:
            return protocol::task_domain;
        case Task::title:
            return protocol::task_title;
        case Task::read_url:
            return protocol::task_read_url;
    }
    return protocol::task_query;
}

// `text` with the `<` of every `sentinel` in it replaced: what a client sends must not close our tags.
std::string protect(std::string_view text, std::string_view sentinel, std::string_view replacement) {
    std::string result;
    std::size_t at = 0;
    for (std::size_t hit; (hit = text.find(sentinel, at)) != std::string_view::npos; at = hit + 1) {
        result.append(text.substr(at, hit - at)).append(replacement);
    }
    return result.append(text.substr(at));
}

class Renderer {
  public:
    Renderer(const RenderOptions& options, const ToolMemory* memory, ReplayCounts& counts)
        : options_(options),
          recommended_(options.behaviour == Behaviour::recommended),
          memory_(memory),
          counts_(counts) {}

    Prompt render(const std::vector<Turn>& turns) {
        special(protocol::bos);
        if (options_.thinking == ThinkingMode::thinking) plain(effort_prefix(options_));
        for (std::size_t i = 0; i < turns.size(); ++i) {
            const Turn* previous = i > 0 ? &turns[i - 1] : nullptr;
            const Turn* next = i + 1 < turns.size() ? &turns[i + 1] : nullptr;
            turn(turns[i], previous);
            const bool next_is_answer =
                next == nullptr || next->role == Role::assistant || next->role == Role::latest_reminder;
            if (next_is_answer) transition(turns[i]);
        }
        return std::move(prompt_);
    }

    void plain(std::string_view text) {
        if (text.empty()) return;
        if (prompt_.segments.empty() || prompt_.segments.back().is_special)
            prompt_.segments.push_back({false, ""});
        prompt_.segments.back().text += text;
    }

    void special(std::string_view token) { prompt_.segments.push_back({true, std::string(token)}); }

  private:
    // Text that is not the client's: the control tokens that it mentions are meant.
    void fixed(std::string_view text) {
        while (!text.empty()) {
            std::size_t begin = text.size();
            std::string_view token;
            for (const std::string_view candidate : control_tokens) {
                const std::size_t at = text.find(candidate);
                if (at < begin) {
                    begin = at;
                    token = candidate;
                }
            }
            plain(text.substr(0, begin));
            if (!token.empty()) special(token);
            text.remove_prefix(begin + token.size());
        }
    }

    void turn(const Turn& turn, const Turn* previous) {
        switch (turn.role) {
            case Role::system:
                instructions(turn);
                prompt_.start = Prompt::Start::ended;
                break;
            case Role::developer:
                special(protocol::user);
                instructions(turn);
                break;
            case Role::user:
            case Role::tool:
                special(protocol::user);
                user_parts(turn);
                break;
            case Role::assistant:
                assistant(turn, previous != nullptr && previous->task.has_value());
                break;
            case Role::latest_reminder:
                special(protocol::latest_reminder);
                plain(turn.parts[0].text);
                break;
        }
    }

    void instructions(const Turn& turn) {
        const std::string& content = turn.parts[0].text;
        const bool tools_first = options_.tools_first && recommended_;
        if (tools_first && !turn.tools.empty()) {
            tools(turn.tools);
            if (!content.empty() || turn.response_schema) plain("\n");
            plain(content);
            if (!content.empty() && turn.response_schema) plain("\n\n");
        } else {
            plain(content);
            if (!turn.tools.empty()) {
                plain("\n\n");
                tools(turn.tools);
            }
            if (turn.response_schema) plain("\n\n");
        }
        if (turn.response_schema) {
            fixed(protocol::response_format_head);
            plain(*turn.response_schema);
        }
    }

    void tools(const std::vector<std::string>& schemas) {
        fixed(protocol::tools_head);
        std::string_view separator;
        for (const std::string& schema : schemas) {
            plain(std::exchange(separator, "\n"));
            plain(schema);
        }
        fixed(protocol::tools_tail);
    }

    void user_parts(const Turn& turn) {
        std::string_view separator;
        for (const Turn::Part& part : turn.parts) {
            plain(std::exchange(separator, "\n\n"));
            if (part.is_tool_result) {
                plain(protocol::tool_result);
                plain(recommended_ ? protect(part.text, protocol::end_tool_result, "&lt;") : part.text);
                plain(protocol::end_tool_result);
            } else {
                plain(part.text);
            }
        }
    }

    void assistant(const Turn& turn, bool answers_task) {
        if (turn.shows_thinking && !answers_task) {
            plain(turn.reasoning.value_or(""));
            special(protocol::end_think);
        }
        plain(turn.parts[0].text);
        if (!turn.tool_calls.empty()) calls(turn.tool_calls);
        if (!turn.is_prefix) special(protocol::eos);
        prompt_.start = turn.is_prefix ? Prompt::Start::content : Prompt::Start::ended;
    }

    // ---- calls (prompt.md 2.5) ----

    void open_tag(std::string_view rest) {
        plain("<");
        special(protocol::dsml);
        plain(rest);
    }

    void close_tag(std::string_view rest) {
        plain("</");
        special(protocol::dsml);
        plain(rest);
    }

    void calls(const std::vector<ToolCall>& tool_calls) {
        const auto exact = memory_ == nullptr ? nullptr : find_exact_block(*memory_, tool_calls, counts_);
        if (exact != nullptr) return fixed(*exact);
        plain("\n\n");
        open_tag("tool_calls>\n");
        for (const ToolCall& call : tool_calls) {
            open_tag("invoke name=\"");
            plain(call.name);
            plain("\">\n");
            arguments(call.arguments);
            plain("\n");
            close_tag("invoke>\n");
        }
        close_tag("tool_calls>");
    }

    void arguments(const std::string& text) {
        Json json;
        bool is_json = true;
        try {
            if (!text.empty()) json = parse_json(text);
        } catch (const PromptError&) {
            is_json = false;
        }
        if (is_json && json.is(Json::Kind::null)) return;
        if (!is_json || !json.is(Json::Kind::object)) return string_parameter("arguments", text);
        std::string_view separator;
        for (const auto& [key, value] : json.members) {
            plain(std::exchange(separator, "\n"));
            if (value.is(Json::Kind::string)) {
                string_parameter(key, value.text);
            } else {
                json_parameter(key, dump_python(value));
            }
        }
    }

    void string_parameter(std::string_view key, std::string_view value) {
        parameter(key, "true", value, "&lt;");
    }
    void json_parameter(std::string_view key, std::string_view value) {
        parameter(key, "false", value, "\\u003c");
    }

    void parameter(std::string_view key, std::string_view is_string, std::string_view value,
                   std::string_view escaped_bracket) {
        open_tag("parameter name=\"");
        plain(key);
        plain("\" string=\"");
        plain(is_string);
        plain("\">");
        const std::string sentinel = "</" + std::string(protocol::dsml) + "parameter>";
        plain(recommended_ ? protect(value, sentinel, escaped_bracket) : std::string(value));
        close_tag("parameter>");
    }

    // ---- what follows a turn ----

    void transition(const Turn& turn) {
        if (turn.task) {
            if (*turn.task == Task::action) opener(options_.thinking == ThinkingMode::thinking);
            special(task_token(*turn.task));
            prompt_.start = Prompt::Start::content;
        } else if (turn.role == Role::user || turn.role == Role::developer) {
            opener(turn.shows_thinking);
        }
    }

    void opener(bool thinks) {
        special(protocol::assistant);
        special(thinks ? protocol::think : protocol::end_think);
        prompt_.start = thinks ? Prompt::Start::reasoning : Prompt::Start::content;
    }

    const RenderOptions& options_;
    const bool recommended_;
    const ToolMemory* memory_;  // nullptr: none
    ReplayCounts& counts_;
    Prompt prompt_;
};

}  // namespace

Prompt render(const Conversation& conversation) {
    ReplayCounts ignored;
    return render(conversation, nullptr, ignored);
}

Prompt render(const Conversation& conversation, const ToolMemory* memory, ReplayCounts& counts) {
    return Renderer(conversation.options, memory, counts).render(preprocess(conversation));
}

Prompt render_raw(std::string_view text) {
    Prompt prompt;
    prompt.segments.push_back({true, std::string(protocol::bos)});
    if (!text.empty()) prompt.segments.push_back({false, std::string(text)});
    prompt.start = Prompt::Start::content;
    return prompt;
}

Effort limit_effort(Effort effort, std::int64_t n_context) {
    return effort == Effort::max && n_context < min_context_for_max_effort ? Effort::high : effort;
}

std::string to_text(const Prompt& prompt) {
    std::string text;
    for (const Segment& segment : prompt.segments) text += segment.text;
    return text;
}

std::vector<tokenizer::TokenId> to_tokens(std::span<const Segment> segments,
                                          const tokenizer::Tokenizer& tokenizer) {
    std::vector<tokenizer::TokenId> ids;
    for (const Segment& segment : segments) {
        if (!segment.is_special) {
            tokenizer.encode_to(segment.text, ids);
            continue;
        }
        const auto id = tokenizer.find_added(segment.text);
        if (!id)
            throw TokenizerError("the vocabulary has no token '" + segment.text + "', which prompts need");
        ids.push_back(*id);
    }
    return ids;
}

}  // namespace ds4::chat
