#include "chat/output_parser.h"

#include <algorithm>

#include "chat/json_style.h"
#include "chat/protocol.h"

namespace ds4::chat {
namespace {

using Kind = OutputEvent::Kind;

// How much of the end of `text` may be the beginning of one of `stops`.
std::size_t count_held(std::string_view text, const std::vector<std::string>& stops) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
        for (std::size_t n = std::min(stop.size() - 1, text.size()); n > longest; --n) {
            if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
        }
    }
    return longest;
}

}  // namespace

std::vector<ToolShape> tool_shapes(const std::vector<std::string>& schemas) {
    std::vector<ToolShape> shapes;
    for (const std::string& schema : schemas) {
        const Json function = parse_json(schema);
        ToolShape& shape = shapes.emplace_back();
        if (const Json* name = function.find("name")) shape.name = name->text;
        const Json* parameters = function.find("parameters");
        const Json* properties = parameters == nullptr ? nullptr : parameters->find("properties");
        if (properties == nullptr) continue;
        for (const Json::Member& member : properties->members) shape.properties.push_back(member.key);
    }
    return shapes;
}

OutputParser::OutputParser(Options options) : options_(std::move(options)) {
    if (options_.start == Prompt::Start::reasoning) {
        state_ = State::output_start;
    } else {
        state_ = options_.offers_tools ? State::content : State::plain_content;
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
    if (in_block()) {
        end_in_block(end);
    } else {
        is_final_ = true;
        while (step()) {
        }
    }
    emit(Kind::content, std::exchange(held_content_, {}));
    return take_events();
}

bool OutputParser::in_reasoning() const {
    return state_ == State::output_start || state_ == State::reasoning || state_ == State::reasoning_marker;
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
            give_content(consume(pending_.size()));
            return false;
        case State::between_calls:
            return step_between_calls();
        case State::in_call:
            return step_in_call();
        case State::undecided_value:
            return step_undecided_value();
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
        const Match start = options_.offers_tools ? match_literal(rest, start_marker) : Match::no;
        if (end == Match::full) {
            emit(Kind::reasoning, consume(at));
            consume(protocol::end_think.size());
            state_ = options_.offers_tools ? State::content : State::plain_content;
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
    // The token that completed the marker may have brought white space along.
    const std::size_t n_space = count_leading_space(pending_);
    const Match match = match_literal(std::string_view(pending_).substr(n_space), protocol::end_think);
    if (match == Match::partial && !is_final_) return false;
    // With </think> behind it the marker was cut off by force; otherwise the model only quotes it.
    if (match == Match::full) {
        consume(n_space);
    } else {
        emit(Kind::reasoning, held_space_);
    }
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
    consume(at);
    give_content(text);
    if (state_ == State::done) return true;
    if (marker.match != Match::full) return false;
    emit(Kind::content, std::exchange(held_content_, {}));
    raw_block_ = std::exchange(held_space_, {});
    spelling_ = marker.spelling;
    state_ = State::between_calls;
    consume(marker.length);
    return true;
}

void OutputParser::give_content(std::string_view text) {
    held_content_ += text;
    std::size_t hit = std::string::npos;
    for (const std::string& stop : options_.stop) {
        const std::size_t at = held_content_.find(stop);
        if (at >= hit) continue;
        hit = at;
        stop_sequence_ = stop;
    }
    if (hit != std::string::npos) {
        emit(Kind::content, std::string_view(held_content_).substr(0, hit));
        held_content_.clear();
        done(FinishReason::stop_sequence);
        return;
    }
    const std::size_t n = held_content_.size() - count_held(held_content_, options_.stop);
    emit(Kind::content, std::string_view(held_content_).substr(0, n));
    held_content_.erase(0, n);
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

std::string OutputParser::consume(std::size_t n) {
    std::string text = pending_.substr(0, n);
    pending_.erase(0, n);
    if (in_block()) raw_block_ += text;
    return text;
}

void OutputParser::done(FinishReason reason) {
    finish_reason_ = reason;
    state_ = State::done;
}

}  // namespace ds4::chat
