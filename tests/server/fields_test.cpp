#include "server/fields.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "server/common_fields.h"
#include "server/models.h"

namespace ds4::server {
namespace {

std::string complaint(const std::function<void()>& action) {
    try {
        action();
        return "no error";
    } catch (const ApiError& error) {
        return error.what();
    }
}

TEST(Fields, NameTheirPlaces) {
    const chat::Json json = parse_body(R"({"a":{"b":[1,"x",null,{"c":true}]},"n":null})");
    const Field body = Field::body(json);
    EXPECT_FALSE(body["n"]);
    EXPECT_FALSE(body["missing"]["deeper"]);
    const auto items = body["a"]["b"].items();
    ASSERT_EQ(items.size(), 4u);
    EXPECT_FALSE(items[2]);
    EXPECT_EQ(items[3]["c"].path(), "a.b[3].c");
    EXPECT_EQ(complaint([&] { (void)items[0].string(); }), "a.b[0]: must be a string");
    EXPECT_EQ(complaint([&] { (void)items[1].integer(); }), "a.b[1]: must be a number");
    EXPECT_EQ(complaint([&] { (void)items[1].boolean(); }), "a.b[1]: must be true or false");
    EXPECT_EQ(complaint([&] { (void)body["a"].items(); }), "a: must be a list");
    EXPECT_EQ(complaint([&] { (void)body["x"]["y"].string(); }), "x.y: must be a string");
}

TEST(Fields, NumbersOfEverySize) {
    const chat::Json json = parse_body(
        R"([3, 3.0, -7, 1e3, 9223372036854775807, -9223372036854775808, 99999999999999999999, -1e300, 1.5, 18446744073709551615])");
    chat::Json object;
    object.kind = chat::Json::Kind::object;
    object.members.push_back({"l", json});
    const auto items = Field::body(object)["l"].items();
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    constexpr auto least = std::numeric_limits<std::int64_t>::min();
    EXPECT_EQ(items[0].integer(), 3);
    EXPECT_EQ(items[1].integer(), 3);
    EXPECT_EQ(items[2].integer(), -7);
    EXPECT_EQ(items[3].integer(), 1000);
    EXPECT_EQ(items[4].integer(), most);
    EXPECT_EQ(items[5].integer(), least);
    EXPECT_EQ(items[6].integer(), most);
    EXPECT_EQ(items[7].integer(), least);
    EXPECT_EQ(complaint([&] { (void)items[8].integer(); }), "l[8]: must be an integer");
    EXPECT_EQ(items[9].integer(), most);
}

TEST(Fields, BodiesThatAreNone) {
    for (const std::string text :
         {"", "{", "[1,2", "{\"a\":NaN}", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "{} x"}) {
        EXPECT_TRUE(complaint([&] { (void)parse_body(text); }).starts_with("Request body: ")) << text;
    }
    EXPECT_NE(complaint([] { (void)parse_body("{\"a\": nope}"); }).find("byte"), std::string::npos);
    const chat::Json list = parse_body("[]");
    EXPECT_NE(complaint([&] { (void)Field::body(list); }).find("object"), std::string::npos);
}

TEST(CommonFields, SamplingIsMovedIntoRange) {
    const chat::Json json = parse_body(R"({"temperature":9,"top_p":0,"min_p":-1,"top_k":-4,"seed":-1})");
    GenerationRequest request;
    read_sampling(Field::body(json), request);
    EXPECT_EQ(request.sampling.temperature, 2.0F);
    EXPECT_GT(request.sampling.top_p, 0.0F);
    EXPECT_EQ(request.sampling.min_p, 0.0F);
    EXPECT_EQ(request.sampling.top_k, 0);
    EXPECT_TRUE(request.has_seed);
    EXPECT_EQ(request.sampling.seed, std::numeric_limits<std::uint64_t>::max());
}

TEST(CommonFields, ThinkingByTheFirstThatSaysSomething) {
    using chat::Effort;
    using chat::ThinkingMode;
    struct Case {
        ThinkingWish wish;
        ThinkingMode mode;
        Effort effort;
    };
    const std::vector<Case> cases = {
        {{}, ThinkingMode::thinking, Effort::high},
        {{{}, "", "deepseek-chat"}, ThinkingMode::chat, Effort::high},
        {{{}, "", "deepseek-reasoner"}, ThinkingMode::thinking, Effort::high},
        {{{}, "medium", "deepseek-chat"}, ThinkingMode::thinking, Effort::high},
        {{{}, "none", ""}, ThinkingMode::chat, Effort::high},
        {{{}, "minimal", ""}, ThinkingMode::thinking, Effort::low},
        {{{}, "low", ""}, ThinkingMode::thinking, Effort::low},
        {{{}, "xhigh", ""}, ThinkingMode::thinking, Effort::high},
        {{{}, "max", ""}, ThinkingMode::thinking, Effort::max},
        {{{}, "ultra", ""}, ThinkingMode::thinking, Effort::max},
        {{{}, "whatever", ""}, ThinkingMode::thinking, Effort::high},
        {{false, "max", "deepseek-reasoner"}, ThinkingMode::chat, Effort::max},
        {{true, "none", "deepseek-chat"}, ThinkingMode::thinking, Effort::high},
    };
    for (const Case& c : cases) {
        chat::RenderOptions options;
        apply_thinking(c.wish, options);
        EXPECT_EQ(options.thinking, c.mode) << c.wish.effort << " " << c.wish.model;
        EXPECT_EQ(options.effort, c.effort) << c.wish.effort;
    }
}

TEST(ApiErrors, EveryRowOfTheTable) {
    struct Row {
        ApiError error;
        int status;
        std::string openai, anthropic;
    };
    ApiError no_model(ErrorKind::unknown_model, "X");
    no_model.param = "model";
    const std::vector<Row> rows = {
        {invalid_field("messages", "must be a non-empty array"), 400,
         R"({"error":{"message":"messages: must be a non-empty array","type":"invalid_request_error","param":"messages","code":null}})",
         R"({"type":"error","error":{"type":"invalid_request_error","message":"messages: must be a non-empty array"},"request_id":"req_1"})"},
        {unsupported_field("n", "must be 1 to 8"), 400,
         R"({"error":{"message":"n: must be 1 to 8","type":"invalid_request_error","param":"n","code":"unsupported_value"}})",
         ""},
        {{ErrorKind::unauthorized, "Incorrect API key provided."},
         401,
         R"({"error":{"message":"Incorrect API key provided.","type":"authentication_error","param":null,"code":"invalid_api_key"}})",
         R"({"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_1"})"},
        {{ErrorKind::unknown_path, "POST /v1/x"},
         404,
         R"({"error":{"message":"Unknown request URL: POST /v1/x","type":"invalid_request_error","param":null,"code":"unknown_url"}})",
         R"({"type":"error","error":{"type":"not_found_error","message":"Not found: POST /v1/x"},"request_id":"req_1"})"},
        {no_model, 404,
         R"({"error":{"message":"The model 'X' does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}})",
         R"({"type":"error","error":{"type":"not_found_error","message":"model: X"},"request_id":"req_1"})"},
        {{ErrorKind::body_too_large, "Request body exceeds 67108864 bytes"},
         413,
         R"({"error":{"message":"Request body exceeds 67108864 bytes","type":"invalid_request_error","param":null,"code":"request_too_large"}})",
         R"({"type":"error","error":{"type":"request_too_large","message":"Request body exceeds 67108864 bytes"},"request_id":"req_1"})"},
        {{ErrorKind::queue_full, "full"},
         429,
         R"({"error":{"message":"full","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}})",
         R"({"type":"error","error":{"type":"rate_limit_error","message":"full"},"request_id":"req_1"})"},
        {{ErrorKind::internal, "broken"},
         500,
         R"({"error":{"message":"broken","type":"server_error","param":null,"code":"server_error"}})",
         R"({"type":"error","error":{"type":"api_error","message":"broken"},"request_id":"req_1"})"},
        {{ErrorKind::unavailable, "loading"},
         503,
         R"({"error":{"message":"loading","type":"server_error","param":null,"code":"overloaded"}})",
         R"({"type":"error","error":{"type":"overloaded_error","message":"loading"},"request_id":"req_1"})"},
        {context_overflow("messages", 120, 100), 400,
         R"j({"error":{"message":"This model's maximum context length is 100 tokens, but the prompt has 120 tokens (context_length_exceeded)","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","n_prompt_tokens":120,"n_ctx":100}})j",
         R"({"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 120 tokens > 100 maximum"},"request_id":"req_1"})"},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(http_status(row.error.kind), row.status);
        EXPECT_EQ(error_body(row.error, Dialect::openai, "req_1"), row.openai);
        const std::string anthropic = error_body(row.error, Dialect::anthropic, "req_1");
        EXPECT_TRUE(row.anthropic.empty() || anthropic == row.anthropic) << anthropic;
    }
}

TEST(Models, HaveWhatEachDialectWants) {
    const auto plain = nlohmann::json::parse(model_object({1000, 0}, "deepseek-chat", false));
    EXPECT_EQ(plain["id"], "deepseek-chat");
    EXPECT_EQ(plain["top_provider"]["max_completion_tokens"], 1000);
    EXPECT_FALSE(plain.contains("display_name"));
    const auto list = nlohmann::json::parse(model_list({1'000'000, 0}, true));
    EXPECT_EQ(list["data"][0]["created_at"], "1970-01-01T00:00:00Z");
    EXPECT_EQ(list["data"][0]["top_provider"]["max_completion_tokens"], 393216);
    EXPECT_EQ(list["has_more"], false);
    EXPECT_THROW((void)model_object({1000, 0}, "gpt-99", false), ApiError);
}

}  // namespace
}  // namespace ds4::server
