// The half of OutputParser that reads call blocks.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "chat/json_style.h"
#include "chat/output_parser.h"
#include "ds4/error.h"

namespace ds4::chat {
namespace {

using Kind = OutputEvent::Kind;

// A tag that is longer without an end is none.
constexpr std::size_t max_tag_bytes = 4096;
// Of parameters in parameters; as for JSON.
constexpr std::size_t max_objects = static_cast<std::size_t>(max_json_depth);

// White space outside strings goes, literals stay byte for byte.
std::string minify(std::string_view json) {
    std::string result;
    bool in_string = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (in_string && c == '\\') {
            result.append(json.substr(i++, 2));
            continue;
        }
        if (c == '"') in_string = !in_string;
        if (in_string || !is_space(c)) result += c;
    }
    return result;
}

// `text` as the inside of a JSON string.
std::string escape(std::string_view text) {
    const std::string quoted = quote_python(text);
    return quoted.substr(1, quoted.size() - 2);
}

std::size_t count_characters(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string dump_members(const std::vector<std::pair<std::string, std::string>>& members) {
    std::string json = "{";
    for (const auto& [key, value] : members) {
        if (json.size() > 1) json += ',';
        json.append(quote_python(key)).append(":").append(value);
    }
    return json += '}';
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

bool is_too_long(std::string_view pending) {
    return pending.size() > max_tag_bytes;
}

}  // namespace

bool OutputParser::is_in_value() const {
    return state_ == State::undecided_value || state_ == State::string_value || state_ == State::json_value;
}

bool OutputParser::is_in_open_call() const {
    return state_ == State::in_call || is_in_value();
}

bool OutputParser::in_block() const {
    return state_ == State::between_calls || is_in_open_call();
}

bool OutputParser::next_is_syntax() const {
    // A lone "<" is as likely text as a tag.
    const bool may_close = pending_.size() >= 2 && pending_.front() == '<';
    switch (state_) {
        case State::between_calls:
        case State::in_call:
            return true;
        case State::undecided_value:
            return count_leading_space(pending_) + 2 <= pending_.size();
        case State::string_value:
            return may_close;
        case State::json_value:
            return may_close || !in_json_string_;
        default:
            return false;
    }
}

// ---- tags ----

bool OutputParser::step_between_calls() {
    consume(count_leading_space(pending_));
    if (pending_.empty()) return false;
    const std::string end = spelling_.close("tool_calls");
    const Match end_match = match_literal(pending_, end);
    if (end_match == Match::full) {
        consume(end.size());
        if (n_complete_calls_ == 0) {
            broken_block();
        } else {
            done(FinishReason::tool_calls);
        }
        return true;
    }
    const OpenTag tag = match_open_tag(pending_, spelling_.open("invoke"));
    if (tag.match == Match::full && tag.find("name") != nullptr) {
        consume(tag.length);
        begin_call(*tag.find("name"));
        return true;
    }
    const bool is_undecided = end_match == Match::partial || tag.match == Match::partial;
    if (is_undecided && !is_too_long(pending_)) return false;
    broken_block();
    return true;
}

// In an object: the arguments of a call, or a parameter that holds parameters.
bool OutputParser::step_in_call() {
    consume(count_leading_space(pending_));
    if (pending_.empty()) return false;
    const std::string end = spelling_.close(is_nested() ? "parameter" : "invoke");
    const Match end_match = match_literal(pending_, end);
    if (end_match == Match::full) {
        consume(end.size());
        if (is_nested()) {
            end_object();
        } else {
            end_call();
        }
        return true;
    }
    const OpenTag tag = match_open_tag(pending_, spelling_.open("parameter"));
    if (tag.match == Match::full && tag.find("name") != nullptr) {
        consume(tag.length);
        begin_value(tag);
        return true;
    }
    const bool is_undecided = end_match == Match::partial || tag.match == Match::partial;
    if (is_undecided && !is_too_long(pending_)) return false;
    broken_block();
    return true;
}

// ---- values ----

// Without a valid string attribute a value is a string, unless it starts with a parameter tag: then models
// mean an object.
bool OutputParser::step_undecided_value() {
    const std::string_view rest = std::string_view(pending_).substr(count_leading_space(pending_));
    const OpenTag tag = match_open_tag(rest, spelling_.open("parameter"));
    const bool is_object =
        tag.match == Match::full && tag.find("name") != nullptr && objects_.size() < max_objects;
    if (is_object) {
        objects_.push_back({key_, {}});
        state_ = State::in_call;
        return true;
    }
    if (tag.match == Match::partial && !is_too_long(pending_)) return false;
    begin_string();
    return true;
}

bool OutputParser::step_value() {
    const std::string end = spelling_.close("parameter");
    const std::string escaped_end = "&lt;" + end.substr(1);
    const bool is_string = state_ == State::string_value;
    std::size_t at = 0, given = 0;
    const auto give_up_to = [&](std::size_t position) {
        append_value(std::string_view(pending_).substr(given, position - given));
    };
    for (; (at = pending_.find_first_of("<&", at)) != std::string::npos; ++at) {
        const std::string_view rest = std::string_view(pending_).substr(at);
        const Match end_match = match_literal(rest, end);
        const Match escaped = is_string ? match_literal(rest, escaped_end) : Match::no;
        if (end_match == Match::full) {
            give_up_to(at);
            consume(at + end.size());
            end_value();
            return true;
        }
        if (escaped == Match::full) {
            give_up_to(at);
            append_value(end);
            given = at + escaped_end.size();
            at = given - 1;
        } else if (end_match == Match::partial || escaped == Match::partial) {
            break;
        }
    }
    at = std::min(at, pending_.size());
    give_up_to(at);
    consume(at);
    return false;
}

void OutputParser::begin_value(const OpenTag& tag) {
    release_wrapper();
    key_ = *tag.find("name");
    value_.clear();
    const std::string* attribute = tag.find("string");
    if (attribute != nullptr && *attribute == "true") return begin_string();
    const bool is_json = attribute != nullptr && *attribute == "false";
    state_ = is_json ? State::json_value : State::undecided_value;
    in_json_string_ = after_backslash_ = false;
}

void OutputParser::begin_string() {
    state_ = State::string_value;
    if (is_nested()) return;
    emit_key(key_);
    emit(Kind::arguments, "\"");
}

void OutputParser::append_value(std::string_view text) {
    value_ += text;
    if (state_ == State::string_value && !is_nested()) emit(Kind::arguments, escape(text));
    if (state_ != State::json_value) return;
    for (const char c : text) {
        if (std::exchange(after_backslash_, false)) continue;
        if (c == '"') in_json_string_ = !in_json_string_;
        after_backslash_ = in_json_string_ && c == '\\';
    }
}

void OutputParser::end_value() {
    if (state_ == State::string_value) {
        add_member(key_, quote_python(value_));
        if (!is_nested()) emit(Kind::arguments, "\"");
    } else {
        // What is not JSON goes to the client as a string; validating against the tool's schema is its
        // business.
        const std::string json = nlohmann::json::accept(value_) ? minify(value_) : quote_python(value_);
        holds_wrapper_ = may_be_wrapper(key_);
        add_member(key_, json);
        if (!is_nested() && !holds_wrapper_) emit_member(key_, json);
    }
    state_ = State::in_call;
}

// A parameter that held parameters.
void OutputParser::end_object() {
    const Object object = std::move(objects_.back());
    objects_.pop_back();
    const std::string json = dump_members(object.members);
    add_member(object.key, json);
    if (!is_nested()) emit_member(object.key, json);
}

void OutputParser::add_member(const std::string& key, const std::string& json) {
    auto& members = objects_.back().members;
    const auto member =
        std::find_if(members.begin(), members.end(), [&](const auto& entry) { return entry.first == key; });
    if (member != members.end()) {
        member->second = json;
    } else {
        members.emplace_back(key, json);
    }
}

void OutputParser::emit_key(const std::string& key) {
    emit(Kind::arguments, has_arguments_ ? "," : "{");
    emit(Kind::arguments, quote_python(key));
    emit(Kind::arguments, ":");
    has_arguments_ = true;
}

void OutputParser::emit_member(const std::string& key, const std::string& json) {
    emit_key(key);
    emit(Kind::arguments, json);
}

// ---- arguments in a wrapper: models sometimes put all of them into one parameter ----

bool OutputParser::may_be_wrapper(const std::string& key) const {
    const bool is_first = objects_.size() == 1 && objects_.back().members.empty();
    return is_first && tool_ != nullptr && (key == "arguments" || key == "input") &&
           !contains(tool_->properties, key);
}

bool OutputParser::unwraps(const std::string& json) const {
    try {
        const Json object = parse_json(json);
        return object.is(Json::Kind::object) &&
               std::all_of(object.members.begin(), object.members.end(), [&](const Json::Member& member) {
                   return contains(tool_->properties, member.key);
               });
    } catch (const PromptError&) {
        return false;
    }
}

// Another parameter follows, so it was no wrapper.
void OutputParser::release_wrapper() {
    if (!std::exchange(holds_wrapper_, false)) return;
    const auto& [key, json] = objects_.front().members.front();
    emit_member(key, json);
}

// ---- calls ----

void OutputParser::begin_call(const std::string& name) {
    emit(Kind::call_begin, name);
    const auto tool = std::find_if(options_.tools.begin(), options_.tools.end(),
                                   [&](const ToolShape& shape) { return shape.name == name; });
    tool_ = tool == options_.tools.end() ? nullptr : &*tool;
    objects_.assign(1, {});
    has_arguments_ = false;
    holds_wrapper_ = false;
    state_ = State::in_call;
}

void OutputParser::end_call() {
    std::string arguments = dump_members(objects_.front().members);
    if (holds_wrapper_ && unwraps(objects_.front().members.front().second)) {
        holds_wrapper_ = false;
        arguments = objects_.front().members.front().second;
        emit(Kind::arguments, arguments);
    } else {
        release_wrapper();
        emit(Kind::arguments, has_arguments_ ? "}" : "{}");
    }
    emit(Kind::call_end, arguments);
    ++n_complete_calls_;
    state_ = State::between_calls;
}

// Something in the block is neither a tag nor white space.
void OutputParser::broken_block() {
    if (options_.holds_broken_block && n_complete_calls_ == 0) {
        raw_block_ += std::exchange(pending_, {});
        done(FinishReason::broken_block);
    } else if (is_in_open_call()) {
        done(FinishReason::error);
    } else if (n_complete_calls_ > 0) {
        done(FinishReason::tool_calls);
    } else {
        // Nothing was announced: what the model wrote is text.
        emit(Kind::content, raw_block_);
        state_ = State::plain_content;
    }
}

// ---- the output ended inside the block ----

// After EOS only closing tags may be missing; a piece of the one due next is cut. An argument that ran into
// the length limit is never closed: half a file would be written.
void OutputParser::end_in_block(OutputEnd end) {
    if (is_in_open_call() && end == OutputEnd::length) return;
    if (is_in_value()) end_in_value();
    while (state_ == State::in_call && is_nested() && cut_closing_tag("parameter")) end_object();
    const bool is_in_call = state_ == State::in_call && !is_nested();
    const bool is_repaired = is_in_call
                                 ? cut_closing_tag("invoke")
                                 : n_complete_calls_ > 0 && !is_nested() && cut_closing_tag("tool_calls");
    if (!is_repaired) {
        broken_block();
        step();
        return;
    }
    if (is_in_call) end_call();
    done(FinishReason::tool_calls);
}

void OutputParser::end_in_value() {
    if (state_ == State::undecided_value) begin_string();
    const bool is_cut_tag = count_characters(pending_) >= 3 &&
                            match_literal(pending_, spelling_.close("parameter")) == Match::partial;
    const std::string rest = consume(pending_.size());
    if (!is_cut_tag) append_value(rest);
    end_value();
}

// What is pending is a piece of this closing tag, or nothing: it goes.
bool OutputParser::cut_closing_tag(std::string_view name) {
    if (match_literal(pending_, spelling_.close(name)) == Match::no) return false;
    consume(pending_.size());
    return true;
}

}  // namespace ds4::chat
