#pragma once

#include <string>
#include <string_view>
#include <vector>

// JSON as the prompt needs it (prompt.md 2.3): keys keep their order, numbers their digits.
namespace ds4::chat {

// Deepest nesting that is read (api.md 1).
inline constexpr int max_json_depth = 64;

// One JSON value.
struct Json {
    enum class Kind : unsigned char { null, boolean, integer, real, string, array, object };
    struct Member;

    Kind kind = Kind::null;
    bool truth = false;           // of a boolean
    std::string text;             // a string's characters; a number as it is dumped
    std::vector<Json> items;      // of an array
    std::vector<Member> members;  // of an object: a repeated key keeps its first place and its last value

    bool is(Kind k) const { return kind == k; }
    // The member with this key, nullptr if there is none, it is null, or this is not an object.
    const Json* find(std::string_view key) const;
};

struct Json::Member {
    std::string key;
    Json value;
};

// Lone surrogate escapes become U+FFFD. Throws PromptError, saying where: not JSON, not UTF-8, nested deeper
// than max_json_depth, a number beyond the range of double (also an integer of more than 308 digits).
Json parse_json(std::string_view text);

// The text that Python's json.dumps(value, ensure_ascii=False) gives.
std::string dump_python(const Json& value);

// `text` as a JSON string literal in the same style, quotes included.
std::string quote_python(std::string_view text);

// repr() of a float: shortest digits that read back the same. `value` is finite.
std::string python_float(double value);

}  // namespace ds4::chat
