#include "chat/output_parser.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "chat/json_style.h"
#include "chat/protocol.h"

namespace ds4::chat {
namespace {

using Kind = OutputEvent::Kind;

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

}  // namespace

OutputParser::OutputParser(Options options) : offers_tools_(options.offers_tools) {
    if (options.start == Prompt::Start::reasoning) {
        state_ = State::output_start;
    } else {
        state_ = offers_tools_ ? State::content : State::plain_content;
    }
}

std::vector<OutputEvent> OutputParser::push(std::string_view bytes) {
    pending_ += utf8_.push(bytes);
    while (step()) {
    }
    return take_events();
}

std::vector<OutputEvent> OutputParser::finish(OutputEnd end) {
    pending_ += utf8_.finish();
    while (step()) {
    }
    if (state_ == State::done) return take_events();
    finish_reason_ = end == OutputEnd::length ? FinishReason::length : FinishReason::stop;
    if (is_in_block()) {
        end_in_block(end);
    } else {
        is_final_ = true;
        while (step()) {
        }
    }
    return take_events();
}

bool OutputParser::step() {
    switch (state_) {
        case State::output_start:
            return step_output_start();
        case State::reasoning:
            return step_reasoning();
        case State::reasoning_marker:
            return step_reasoning_marker();
        case State::content:
            return step_content();
        case State::plain_content:
            release(Kind::content);
            return false;
        case State::between_calls:
            return step_between_calls();
        case State::in_call:
            return step_in_call();
        case State::string_value:
        case State::json_value:
            return step_value();
        case State::done:
            pending_.clear();
            return false;
    }
    return false;
}

// ---- reasoning and content ----

bool OutputParser::step_output_start() {
    const Match match = match_literal(pending_, protocol::think);
    if (match == Match::partial && !is_final_) return false;
    if (match == Match::full) consume(protocol::think.size());
    state_ = State::reasoning;
    return true;
}

bool OutputParser::step_reasoning() {
    const std::string start_marker = TagSpelling{protocol::dsml}.open("tool_calls>");
    std::size_t at = 0;
    for (; (at = pending_.find('<', at)) != std::string::npos; ++at) {
        const std::string_view rest = std::string_view(pending_).substr(at);
        const Match end = match_literal(rest, protocol::end_think);
        const Match start = offers_tools_ ? match_literal(rest, start_marker) : Match::no;
        if (end == Match::full) {
            emit(Kind::reasoning, consume(at));
            consume(protocol::end_think.size());
            state_ = offers_tools_ ? State::content : State::plain_content;
            return true;
        }
        if (start == Match::full) {
            emit(Kind::reasoning, consume(at));
            held_space_ = consume(start_marker.size());
            events_.push_back({Kind::call_in_reasoning, ""});
            state_ = State::reasoning_marker;
            return true;
        }
        const bool is_undecided = end == Match::partial || start == Match::partial;
        if (is_undecided && !is_final_) break;
    }
    emit(Kind::reasoning, consume(std::min(at, pending_.size())));
    return false;
}

bool OutputParser::step_reasoning_marker() {
    const Match match = match_literal(pending_, protocol::end_think);
    if (match == Match::partial && !is_final_) return false;
    // With </think> right behind it the marker was cut off by force; otherwise the model only quotes it.
    if (match != Match::full) emit(Kind::reasoning, held_space_);
    held_space_.clear();
    state_ = State::reasoning;
    return true;
}

bool OutputParser::step_content() {
    std::string text;
    std::size_t at = 0;
    StartMarker marker;
    for (; at < pending_.size(); ++at) {
        const char c = pending_[at];
        if (is_space(c)) {
            held_space_ += c;
            continue;
        }
        if (c == '<') {
            marker = match_start_marker(std::string_view(pending_).substr(at));
            if (is_final_ && marker.match == Match::partial) marker.match = Match::no;
            if (marker.match != Match::no) break;
        }
        text += std::exchange(held_space_, {});
        text += c;
    }
    if (is_final_) text += std::exchange(held_space_, {});
    emit(Kind::content, text);
    consume(at);
    if (marker.match != Match::full) return false;
    raw_block_ = std::exchange(held_space_, {});
    spelling_ = marker.spelling;
    state_ = State::between_calls;
    consume(marker.length);
    return true;
}

// ---- call block ----

bool OutputParser::is_in_open_call() const {
    return state_ == State::in_call || state_ == State::string_value || state_ == State::json_value;
}

bool OutputParser::is_in_block() const {
    return state_ == State::between_calls || is_in_open_call();
}

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
    if (end_match == Match::partial || tag.match == Match::partial) return false;
    broken_block();
    return true;
}

bool OutputParser::step_in_call() {
    consume(count_leading_space(pending_));
    if (pending_.empty()) return false;
    const std::string end = spelling_.close("invoke");
    const Match end_match = match_literal(pending_, end);
    if (end_match == Match::full) {
        consume(end.size());
        end_call();
        return true;
    }
    const OpenTag tag = match_open_tag(pending_, spelling_.open("parameter"));
    if (tag.match == Match::full && tag.find("name") != nullptr) {
        consume(tag.length);
        begin_value(tag);
        return true;
    }
    if (end_match == Match::partial || tag.match == Match::partial) return false;
    broken_block();
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

void OutputParser::begin_call(const std::string& name) {
    emit(Kind::call_begin, name);
    members_.clear();
    has_arguments_ = false;
    state_ = State::in_call;
}

void OutputParser::begin_value(const OpenTag& tag) {
    key_ = *tag.find("name");
    value_.clear();
    const std::string* string_attribute = tag.find("string");
    state_ =
        string_attribute != nullptr && *string_attribute == "false" ? State::json_value : State::string_value;
    if (state_ == State::json_value) return;
    emit_key();
    emit(Kind::arguments, "\"");
}

void OutputParser::emit_key() {
    emit(Kind::arguments, has_arguments_ ? "," : "{");
    emit(Kind::arguments, quote_python(key_));
    emit(Kind::arguments, ":");
    has_arguments_ = true;
}

void OutputParser::append_value(std::string_view text) {
    value_ += text;
    if (state_ == State::string_value) emit(Kind::arguments, escape(text));
}

void OutputParser::end_value() {
    std::string json;
    if (state_ == State::string_value) {
        json = quote_python(value_);
        emit(Kind::arguments, "\"");
    } else {
        // What is not JSON goes to the client as a string; validating against the tool's schema is its
        // business.
        json = nlohmann::json::accept(value_) ? minify(value_) : quote_python(value_);
        emit_key();
        emit(Kind::arguments, json);
    }
    const auto member = std::find_if(members_.begin(), members_.end(),
                                     [&](const auto& entry) { return entry.first == key_; });
    if (member != members_.end()) {
        member->second = json;
    } else {
        members_.emplace_back(key_, json);
    }
    state_ = State::in_call;
}

void OutputParser::end_call() {
    emit(Kind::arguments, has_arguments_ ? "}" : "{}");
    emit(Kind::call_end, dump_members(members_));
    ++n_complete_calls_;
    state_ = State::between_calls;
}

// Something in the block is neither a tag nor white space.
void OutputParser::broken_block() {
    if (is_in_open_call()) {
        done(FinishReason::error);
    } else if (n_complete_calls_ > 0) {
        done(FinishReason::tool_calls);
    } else {
        // Nothing was announced: what the model wrote is text.
        emit(Kind::content, raw_block_);
        state_ = State::plain_content;
    }
}

// The output ended inside the block. After EOS only closing tags may be missing; a piece of the one due next
// is cut. An argument that ran into the length limit is never closed: half a file would be written.
void OutputParser::end_in_block(OutputEnd end) {
    if (is_in_open_call() && end == OutputEnd::length) return;
    if (state_ == State::string_value || state_ == State::json_value) end_in_value();
    const bool is_in_call = state_ == State::in_call;
    const std::string due = spelling_.close(is_in_call ? "invoke" : "tool_calls");
    if (match_literal(pending_, due) == Match::no || (!is_in_call && n_complete_calls_ == 0)) {
        broken_block();
        step();
        return;
    }
    if (is_in_call) end_call();
    done(FinishReason::tool_calls);
}

void OutputParser::end_in_value() {
    const bool is_cut_tag = count_characters(pending_) >= 3 &&
                            match_literal(pending_, spelling_.close("parameter")) == Match::partial;
    const std::string rest = consume(pending_.size());
    if (!is_cut_tag) append_value(rest);
    end_value();
}

// ---- common ----

void OutputParser::emit(Kind kind, std::string_view text) {
    const bool is_whole = kind == Kind::call_begin || kind == Kind::call_end;
    if (text.empty() && !is_whole) return;
    if (!is_whole && !events_.empty() && events_.back().kind == kind) {
        events_.back().text += text;
    } else {
        events_.push_back({kind, std::string(text)});
    }
}

void OutputParser::release(Kind kind) {
    emit(kind, consume(pending_.size()));
}

std::string OutputParser::consume(std::size_t n) {
    std::string text = pending_.substr(0, n);
    pending_.erase(0, n);
    if (is_in_block()) raw_block_ += text;
    return text;
}

void OutputParser::done(FinishReason reason) {
    finish_reason_ = reason;
    state_ = State::done;
}

}  // namespace ds4::chat
