#include "chat/preprocess.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "ds4/error.h"

namespace ds4::chat {
namespace {

bool is_instruction(Role role) {
    return role == Role::system || role == Role::developer;
}
bool opens_answer(Role role) {
    return role == Role::user || role == Role::developer;
}

// ---- recommended behaviour: messages to messages ----

void append_paragraph(std::string& text, const std::string& more) {
    if (!text.empty() && !more.empty()) text += "\n\n";
    text += more;
}

void absorb_instruction(Message& head, const Message& message) {
    append_paragraph(head.content, message.content);
    head.tools.insert(head.tools.end(), message.tools.begin(), message.tools.end());
    if (message.response_schema) head.response_schema = message.response_schema;
}

// Instructions before the first other message become one leading system message. Later ones become text of
// the user turn where they stand, so that a prompt already computed stays a prefix of the next one.
std::vector<Message> fold_instructions(const std::vector<Message>& messages) {
    const auto first_other = std::find_if(messages.begin(), messages.end(), [](const Message& message) {
        return !is_instruction(message.role);
    });
    std::vector<Message> result;
    if (first_other != messages.begin()) {
        Message& head = result.emplace_back();
        head.role = Role::system;
        std::for_each(messages.begin(), first_other, [&](const Message& m) { absorb_instruction(head, m); });
    }
    for (auto message = first_other; message != messages.end(); ++message) {
        if (!is_instruction(message->role)) {
            result.push_back(*message);
        } else if (!message->content.empty()) {
            result.push_back(*message);
            result.back().role = Role::user;
        }
    }
    return result;
}

// A reminder after user or tool messages would end up behind the opener of the answer; it goes before their
// turn.
void move_reminders_before_user_turns(std::vector<Message>& messages) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
        if (messages[i].role != Role::latest_reminder) continue;
        std::size_t to = i;
        while (to > 0 && (messages[to - 1].role == Role::user || messages[to - 1].role == Role::tool)) --to;
        const auto begin = messages.begin();
        std::rotate(begin + std::ptrdiff_t(to), begin + std::ptrdiff_t(i), begin + std::ptrdiff_t(i) + 1);
    }
}

// Clients split one answer over several messages; the model knows one turn.
std::vector<Message> merge_assistants(std::vector<Message> messages) {
    std::vector<Message> result;
    for (Message& message : messages) {
        const bool continues =
            message.role == Role::assistant && !result.empty() && result.back().role == Role::assistant;
        if (!continues) {
            result.push_back(std::move(message));
            continue;
        }
        Message& turn = result.back();
        if (message.reasoning) turn.reasoning = turn.reasoning.value_or("") + *message.reasoning;
        turn.content += message.content;
        std::move(message.tool_calls.begin(), message.tool_calls.end(), std::back_inserter(turn.tool_calls));
        turn.is_prefix = message.is_prefix;
        if (message.task) turn.task = message.task;
    }
    return result;
}

// Only the last message can be continued.
void check_prefix(std::vector<Message>& messages) {
    for (std::size_t i = 0; i + 1 < messages.size(); ++i) messages[i].is_prefix = false;
    if (!messages.empty() && messages.back().is_prefix && !messages.back().tool_calls.empty()) {
        throw PromptError(
            "messages: the last message has tool_calls, so there is no text to continue; drop 'prefix'");
    }
}

// ---- both behaviours: messages to turns ----

Turn make_turn(const Message& message) {
    return {.role = message.role == Role::tool ? Role::user : message.role,
            .parts = {},
            .reasoning = message.reasoning,
            .tool_calls = message.tool_calls,
            .task = {},
            .is_prefix = false,
            .tools = message.tools,
            .response_schema = message.response_schema};
}

std::vector<Turn> merge_into_turns(const std::vector<Message>& messages) {
    std::vector<Turn> turns;
    for (const Message& message : messages) {
        const bool is_user = message.role == Role::user || message.role == Role::tool;
        const bool continues =
            is_user && !turns.empty() && turns.back().role == Role::user && !turns.back().task;
        if (!continues) turns.push_back(make_turn(message));
        Turn& turn = turns.back();
        turn.parts.push_back({message.content, message.role == Role::tool, message.tool_call_id});
        if (message.task) turn.task = message.task;
        turn.is_prefix = turn.is_prefix || message.is_prefix;
    }
    return turns;
}

// Tool results stand in the order of the calls that they answer, in whatever order the client sent them.
void sort_results(std::vector<Turn>& turns) {
    std::map<std::string, std::size_t> order;
    const auto rank = [&](const Turn::Part& part) {
        const auto found = order.find(part.call_id);
        return found == order.end() ? 0 : found->second;
    };
    for (Turn& turn : turns) {
        if (turn.role == Role::assistant && !turn.tool_calls.empty()) {
            order.clear();
            for (std::size_t i = 0; i < turn.tool_calls.size(); ++i) {
                if (!turn.tool_calls[i].id.empty()) order[turn.tool_calls[i].id] = i;
            }
        }
        if (turn.role != Role::user || order.empty()) continue;
        std::vector<Turn::Part> results;
        for (const Turn::Part& part : turn.parts) {
            if (part.is_tool_result) results.push_back(part);
        }
        std::stable_sort(results.begin(), results.end(),
                         [&](const Turn::Part& a, const Turn::Part& b) { return rank(a) < rank(b); });
        auto next = results.begin();
        for (Turn::Part& part : turn.parts) {
            if (part.is_tool_result) part = *next++;
        }
    }
}

void attach_request_fields(const Conversation& conversation, std::vector<Turn>& turns) {
    if (conversation.tools.empty() && !conversation.response_schema) return;
    auto system =
        std::find_if(turns.begin(), turns.end(), [](const Turn& turn) { return turn.role == Role::system; });
    if (system == turns.end()) {
        Turn empty;
        empty.role = Role::system;
        empty.parts.emplace_back();
        system = turns.insert(turns.begin(), std::move(empty));
    }
    system->tools.insert(system->tools.end(), conversation.tools.begin(), conversation.tools.end());
    if (conversation.response_schema) system->response_schema = conversation.response_schema;
}

bool tools_are_active(const std::vector<Turn>& turns, Behaviour behaviour) {
    return std::any_of(turns.begin(), turns.end(), [behaviour](const Turn& turn) {
        if (!turn.tools.empty()) return true;
        // An agent's last request often comes without its tools; its reasoning must not vanish for that.
        if (behaviour == Behaviour::vendor_exact) return false;
        return !turn.tool_calls.empty() ||
               std::any_of(turn.parts.begin(), turn.parts.end(),
                           [](const Turn::Part& part) { return part.is_tool_result; });
    });
}

// Decides which turns show thinking and removes what goes with reasoning that is left out.
void drop_old_thinking(std::vector<Turn>& turns, const RenderOptions& options) {
    const bool is_thinking = options.thinking == ThinkingMode::thinking;
    const auto last_user =
        std::find_if(turns.rbegin(), turns.rend(), [](const Turn& turn) { return opens_answer(turn.role); });
    const bool drops = is_thinking && options.drop_thinking && last_user != turns.rend() &&
                       !tools_are_active(turns, options.behaviour);
    const std::size_t n_old = drops ? static_cast<std::size_t>(turns.rend() - last_user) - 1 : 0;
    for (std::size_t i = 0; i < turns.size(); ++i) turns[i].shows_thinking = is_thinking && i >= n_old;
    const auto old_end = turns.begin() + static_cast<std::ptrdiff_t>(n_old);
    turns.erase(
        std::remove_if(turns.begin(), old_end, [](const Turn& turn) { return turn.role == Role::developer; }),
        old_end);
}

// A turn to be continued that brings no reasoning is continued as a turn without thinking.
void hide_thinking_of_bare_prefix(std::vector<Turn>& turns) {
    Turn& last = turns.back();
    if (last.role != Role::assistant || !last.is_prefix || !last.reasoning.value_or("").empty()) return;
    last.shows_thinking = false;
    if (turns.size() > 1) turns[turns.size() - 2].shows_thinking = false;
}

}  // namespace

std::vector<Turn> preprocess(const Conversation& conversation) {
    if (conversation.messages.empty()) throw PromptError("messages is empty");
    const bool recommended = conversation.options.behaviour == Behaviour::recommended;
    std::vector<Message> messages = conversation.messages;
    if (recommended) {
        messages = fold_instructions(messages);
        move_reminders_before_user_turns(messages);
        messages = merge_assistants(std::move(messages));
        check_prefix(messages);
    }
    std::vector<Turn> turns = merge_into_turns(messages);
    sort_results(turns);
    attach_request_fields(conversation, turns);
    drop_old_thinking(turns, conversation.options);
    if (recommended) hide_thinking_of_bare_prefix(turns);
    return turns;
}

}  // namespace ds4::chat
