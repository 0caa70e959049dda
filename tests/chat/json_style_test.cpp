#include "chat/json_style.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "ds4/error.h"

namespace ds4::chat {
namespace {

std::string restyle(std::string_view text) {
    return dump_python(parse_json(text));
}

TEST(JsonStyle, Layout) {
    EXPECT_EQ(restyle(R"( {"b":1,"a":[1,2 ,{}],"c":[ ],"d":null,"e":true,"f":false} )"),
              R"({"b": 1, "a": [1, 2, {}], "c": [], "d": null, "e": true, "f": false})");
    EXPECT_EQ(restyle("3"), "3");
    EXPECT_EQ(restyle("\"x\""), "\"x\"");
}

TEST(JsonStyle, Strings) {
    EXPECT_EQ(restyle(R"("\"\\\/\b\f\n\r\t\u0001\u001F\u007f\u00e9\u2028\ud83d\ude00")"),
              "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\u00E9\u2028\U0001F600\"");
    EXPECT_EQ(restyle("\"\u65E5\u672C\""), "\"\u65E5\u672C\"");
    EXPECT_EQ(restyle(R"("a\u0000b")"), R"("a\u0000b")");
    EXPECT_EQ(quote_python("a\"b"), R"("a\"b")");
}

TEST(JsonStyle, LoneSurrogatesBecomeTheReplacementCharacter) {
    EXPECT_EQ(restyle(R"("\ud83d")"), "\"\uFFFD\"");
    EXPECT_EQ(restyle(R"("\ude00x")"), "\"\uFFFDx\"");
    EXPECT_EQ(restyle(R"("\ud83d\ud83d\ude00")"), "\"\uFFFD\U0001F600\"");
    EXPECT_EQ(restyle(R"("\ud83d\n\\ud83d")"), "\"\uFFFD\\n\\\\ud83d\"");
    EXPECT_THROW(parse_json(R"("\ud83)"), PromptError);
    EXPECT_THROW(parse_json(R"("\uzzzz")"), PromptError);
}

TEST(JsonStyle, IntegersKeepTheirDigits) {
    for (const char* digits :
         {"0", "-1", "9223372036854775807", "-9223372036854775808", "18446744073709551615",
          "18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"}) {
        EXPECT_EQ(restyle(digits), digits);
    }
    EXPECT_EQ(restyle("-0"), "0");
}

TEST(JsonStyle, FloatsAsPythonPrintsThem) {
    const std::pair<const char*, const char*> cases[] = {
        {"1.50", "1.5"},
        {"1e3", "1000.0"},
        {"1e16", "1e+16"},
        {"1e15", "1000000000000000.0"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"-0.0", "-0.0"},
        {"0.0", "0.0"},
        {"1E400", ""},
        {"123456.789", "123456.789"},
        {"5e-324", "5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"0.1", "0.1"},
        {"100.0", "100.0"},
        {"12345678901234567.0", "1.2345678901234568e+16"},
        {"1e-7", "1e-07"},
        {"2.5e-5", "2.5e-05"},
        {"-1.25e20", "-1.25e+20"},
        {"1e22", "1e+22"},
        {"0.000123", "0.000123"},
    };
    for (const auto& [source, expected] : cases) {
        if (*expected == '\0') {
            EXPECT_THROW(parse_json(source), PromptError) << source;
        } else {
            EXPECT_EQ(restyle(source), expected);
        }
    }
}

TEST(JsonStyle, FloatsReadBackTheSame) {
    std::mt19937_64 rng(9);
    for (int i = 0; i < 20000; ++i) {
        const auto value = std::bit_cast<double>(rng());
        if (!std::isfinite(value)) continue;
        const std::string text = python_float(value);
        ASSERT_EQ(std::strtod(text.c_str(), nullptr), value) << text;
        ASSERT_NE(text.find_first_of(".e"), std::string::npos) << text;
    }
}

TEST(JsonStyle, RepeatedKeyKeepsFirstPlaceAndLastValue) {
    EXPECT_EQ(restyle(R"({"a":1,"b":2,"a":3,"c":4,"b":{"x":1,"x":2}})"),
              R"({"a": 3, "b": {"x": 2}, "c": 4})");
}

TEST(JsonStyle, DumpingTwiceChangesNothing) {
    const std::string once = restyle(R"({"a":[1.0,{"k":"\u00e9\n"}],"b":-5,"c":1e300})");
    EXPECT_EQ(restyle(once), once);
}

TEST(JsonStyle, RefusesWhatIsNotJson) {
    for (const char* text : {"", " ", "{", "[1,]", "{\"a\"}", "nul", "NaN", "Infinity", "1 2", "'x'",
                             "\"\x01\"", "\"\xFF\"", "\"\xED\xA0\x80\"", "{\"a\":1}}", "[1e999]"}) {
        EXPECT_THROW(parse_json(text), PromptError) << text;
    }
}

TEST(JsonStyle, DepthIsBounded) {
    const std::string open(max_json_depth, '['), close(max_json_depth, ']');
    EXPECT_EQ(restyle(open + close), open + close);
    try {
        parse_json("[" + open + close + "]");
        FAIL();
    } catch (const PromptError& e) {
        EXPECT_THAT(e.what(), testing::HasSubstr("nested deeper than 64"));
    }
    EXPECT_THROW(parse_json(std::string(1'000'000, '[')), PromptError);
    std::string objects;
    for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
    EXPECT_THROW(parse_json(objects), PromptError);
}

TEST(JsonStyle, LargeObjectsAreNotQuadratic) {
    std::string text = "{";
    for (int i = 0; i < 200000; ++i) text.append("\"").append(std::to_string(i)).append("\":0,");
    text.back() = '}';
    EXPECT_EQ(parse_json(text).members.size(), 200000u);
}

TEST(JsonStyle, FindTreatsNullAsAbsent) {
    const Json json = parse_json(R"({"a":null,"b":0})");
    EXPECT_EQ(json.find("a"), nullptr);
    EXPECT_EQ(json.find("x"), nullptr);
    EXPECT_EQ(json.find("b")->text, "0");
    EXPECT_EQ(json.find("b")->find("c"), nullptr);
}

}  // namespace
}  // namespace ds4::chat
