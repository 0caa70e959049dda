#include "chat/dsml_tags.h"

#include <array>

#include "chat/protocol.h"

namespace ds4::chat {
namespace {

// In the order of preference: proper, first bar missing, bare.
constexpr std::array<std::string_view, 3> infixes = {protocol::dsml, "DSML｜", ""};

StartMarker match_start_marker(std::string_view text, TagSpelling spelling) {
    StartMarker marker;
    marker.spelling = spelling;
    const std::string literal = spelling.open("tool_calls>");
    marker.match = match_literal(text, literal);
    marker.length = literal.size();
    if (marker.match == Match::full && spelling.infix.empty()) {
        const std::string_view rest = text.substr(literal.size());
        marker.match = match_literal(rest.substr(count_leading_space(rest)), spelling.open("invoke"));
    }
    return marker;
}

}  // namespace

Match match_literal(std::string_view text, std::string_view literal) {
    if (text.starts_with(literal)) return Match::full;
    return literal.starts_with(text) ? Match::partial : Match::no;
}

std::size_t count_leading_space(std::string_view text) {
    std::size_t n = 0;
    while (n < text.size() && is_space(text[n])) ++n;
    return n;
}

StartMarker match_start_marker(std::string_view text) {
    StartMarker best;
    for (const std::string_view infix : infixes) {
        const StartMarker marker = match_start_marker(text, TagSpelling{infix});
        if (marker.match == Match::full) return marker;
        if (marker.match == Match::partial) best = marker;
    }
    return best;
}

const std::string* OpenTag::find(const std::string& attribute) const {
    const auto found = attributes.find(attribute);
    return found == attributes.end() ? nullptr : &found->second;
}

OpenTag match_open_tag(std::string_view text, std::string_view prefix) {
    OpenTag tag;
    tag.match = match_literal(text, prefix);
    if (tag.match != Match::full) return tag;
    std::size_t at = prefix.size();
    tag.match = Match::partial;
    while (true) {
        const std::size_t space = count_leading_space(text.substr(at));
        at += space;
        if (at == text.size()) return tag;
        if (text[at] == '>') break;
        const std::size_t equals = text.find_first_of("=\"<> \t\r\n", at);
        if (space == 0 || equals == at) return {};
        if (equals == std::string_view::npos) return tag;
        if (text[equals] != '=') return {};
        if (equals + 1 == text.size()) return tag;
        if (text[equals + 1] != '"') return {};
        const std::size_t begin = equals + 2;
        const std::size_t end = text.find('"', begin);
        if (end == std::string_view::npos) return tag;
        tag.attributes.emplace(text.substr(at, equals - at), text.substr(begin, end - begin));
        at = end + 1;
    }
    tag.match = Match::full;
    tag.length = at + 1;
    return tag;
}

}  // namespace ds4::chat
