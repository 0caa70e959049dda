#include "chat/json_style.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "ds4/error.h"

namespace ds4::chat {
namespace {

using Kind = Json::Kind;
using Input = nlohmann::json;

// Keeps the first place and the last value of each key.
void drop_repeated_keys(std::vector<Json::Member>& members) {
    std::unordered_map<std::string, std::size_t> place;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
        const auto [entry, is_new] = place.emplace(members[i].key, kept);
        if (!is_new) {
            members[entry->second].value = std::move(members[i].value);
        } else {
            if (kept != i) members[kept] = std::move(members[i]);
            ++kept;
        }
    }
    members.resize(kept);
}

// Builds the value from parse events. Open containers are kept on a stack of their own and moved into their
// parent when they close.
class Builder final : public nlohmann::json_sax<Input> {
  public:
    bool null() override { return add({}); }
    bool boolean(bool value) override {
        Json json;
        json.kind = Kind::boolean;
        json.truth = value;
        return add(std::move(json));
    }
    bool number_integer(number_integer_t value) override {
        return add_text(Kind::integer, std::to_string(value));
    }
    bool number_unsigned(number_unsigned_t value) override {
        return add_text(Kind::integer, std::to_string(value));
    }
    bool number_float(number_float_t value, const string_t& digits) override {
        // An integer too long for 64 bits arrives here.
        const bool is_integer = digits.find_first_of(".eE") == std::string::npos;
        return is_integer ? add_text(Kind::integer, digits) : add_text(Kind::real, python_float(value));
    }
    bool string(string_t& value) override { return add_text(Kind::string, std::move(value)); }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return open(Kind::object); }
    bool key(string_t& name) override {
        open_.back().members.push_back({std::move(name), Json()});
        return true;
    }
    bool end_object() override {
        drop_repeated_keys(open_.back().members);
        return close();
    }
    bool start_array(std::size_t) override { return open(Kind::array); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& e) override {
        error_ = e.id == 406 ? "has a number that is out of range at byte " : "is not valid JSON at byte ";
        error_ += std::to_string(position);
        return false;
    }

    const std::string& error() const { return error_; }
    Json take() { return std::move(root_); }

  private:
    bool open(Kind kind) {
        if (open_.size() == max_json_depth) {
            error_ = "is nested deeper than " + std::to_string(max_json_depth) + " levels";
            return false;
        }
        open_.emplace_back().kind = kind;
        return true;
    }

    bool close() {
        Json value = std::move(open_.back());
        open_.pop_back();
        return add(std::move(value));
    }

    bool add_text(Kind kind, std::string text) {
        Json json;
        json.kind = kind;
        json.text = std::move(text);
        return add(std::move(json));
    }

    bool add(Json value) {
        if (open_.empty()) {
            root_ = std::move(value);
        } else if (open_.back().is(Kind::array)) {
            open_.back().items.push_back(std::move(value));
        } else {
            open_.back().members.back().value = std::move(value);
        }
        return true;
    }

    Json root_;
    std::vector<Json> open_;
    std::string error_;
};

// Value of the four hexadecimal digits of a \u escape that starts at `at`; -1 if there is none.
int escaped_unit(std::string_view text, std::size_t at) {
    if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return -1;
    unsigned unit = 0;
    const char* end = text.data() + at + 6;
    const auto result = std::from_chars(text.data() + at + 2, end, unit, 16);
    return result.ptr == end ? static_cast<int>(unit) : -1;
}

bool is_high_surrogate(int unit) {
    return unit >= 0xD800 && unit <= 0xDBFF;
}
bool is_low_surrogate(int unit) {
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

// Clients cut strings between the halves of a pair; the parser would refuse their whole request.
std::string replace_lone_surrogates(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] != '\\') {
            result += text[i++];
            continue;
        }
        const int unit = escaped_unit(text, i);
        if (is_high_surrogate(unit) && is_low_surrogate(escaped_unit(text, i + 6))) {
            result.append(text.substr(i, 12));
            i += 12;
        } else if (is_high_surrogate(unit) || is_low_surrogate(unit)) {
            result += "\\uFFFD";
            i += 6;
        } else {
            result.append(text.substr(i, 2));
            i += 2;
        }
    }
    return result;
}

void append_quoted(std::string_view text, std::string& out) {
    constexpr std::string_view hex = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\r':
                out += "\\r";
                break;
            case '\t':
                out += "\\t";
                break;
            case '\b':
                out += "\\b";
                break;
            case '\f':
                out += "\\f";
                break;
            default:
                if (static_cast<unsigned char>(c) >= 0x20) {
                    out += c;
                } else {
                    out += "\\u00";
                    out += hex[static_cast<std::size_t>(c >> 4)];
                    out += hex[static_cast<std::size_t>(c & 15)];
                }
        }
    }
    out += '"';
}

// Recursion is bounded: no value is deeper than max_json_depth.
void append_dump(const Json& value, std::string& out) {
    std::string_view separator;
    switch (value.kind) {
        case Kind::null:
            out += "null";
            break;
        case Kind::boolean:
            out += value.truth ? "true" : "false";
            break;
        case Kind::integer:
        case Kind::real:
            out += value.text;
            break;
        case Kind::string:
            append_quoted(value.text, out);
            break;
        case Kind::array:
            out += '[';
            for (const Json& item : value.items) {
                out += std::exchange(separator, ", ");
                append_dump(item, out);
            }
            out += ']';
            break;
        case Kind::object:
            out += '{';
            for (const auto& [key, member] : value.members) {
                out += std::exchange(separator, ", ");
                append_quoted(key, out);
                out += ": ";
                append_dump(member, out);
            }
            out += '}';
            break;
    }
}

}  // namespace

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : members) {
        if (name == key) return value.is(Kind::null) ? nullptr : &value;
    }
    return nullptr;
}

Json parse_json(std::string_view text) {
    Builder builder;
    const bool may_have_surrogates = text.find("\\u") != std::string_view::npos;
    const bool ok = may_have_surrogates ? Input::sax_parse(replace_lone_surrogates(text), &builder)
                                        : Input::sax_parse(text.begin(), text.end(), &builder);
    if (!ok) throw PromptError("the text " + builder.error());
    return builder.take();
}

std::string dump_python(const Json& value) {
    std::string out;
    append_dump(value, out);
    return out;
}

std::string quote_python(std::string_view text) {
    std::string out;
    append_quoted(text, out);
    return out;
}

std::string python_float(double value) {
    // Shortest digits in the form d[.ddd]e[+-]xx.
    std::array<char, 32> buffer{};
    const auto end =
        std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
    const std::string_view scientific(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
    const std::size_t e = scientific.find('e');
    int exponent = 0;
    const std::size_t first_digit = scientific[e + 1] == '+' ? e + 2 : e + 1;
    std::from_chars(scientific.data() + first_digit, end, exponent);
    if (exponent < -4 || exponent >= 16) return std::string(scientific);

    std::string digits;
    for (const char c : scientific.substr(0, e)) {
        if (c >= '0' && c <= '9') digits += c;
    }
    std::string result(scientific[0] == '-' ? "-" : "");
    if (exponent < 0)
        return result + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    const auto n_whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() < n_whole) digits.append(n_whole - digits.size(), '0');
    const std::string fraction = digits.size() > n_whole ? digits.substr(n_whole) : "0";
    return result + digits.substr(0, n_whole) + "." + fraction;
}

}  // namespace ds4::chat
