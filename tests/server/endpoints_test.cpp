// Routes, keys, CORS and what can be looked at.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using test::HttpAnswer;
using test::kThinks;
using test::Script;
using test::ScriptedServer;
using Json = nlohmann::json;

const Script kScript = {{{"hi" + kThinks, "r</think>hello"}}};
const std::string kBody = R"({"model":"x","messages":[{"role":"user","content":"hi"}]})";

TEST(Endpoints, AnswerWithAndWithoutPrefix) {
    const ScriptedServer server(kScript);
    for (const std::string path :
         {"/v1/chat/completions", "/chat/completions", "/v1/messages", "/anthropic/v1/messages",
          "/v1/messages?beta=true", "/messages", "/v1/chat/completions/"}) {
        EXPECT_EQ(server.post(path, kBody).status, 200) << path;
    }
    for (const std::string path : {"/v1/models", "/models", "/health", "/metrics", "/v1/status", "/"}) {
        EXPECT_EQ(server.get(path).status, 200) << path;
        const HttpAnswer head = test::http(server.port(), "HEAD", path);
        EXPECT_EQ(head.status, 200) << path;
        EXPECT_TRUE(head.body.empty());
    }
}

TEST(Endpoints, WrongMethodsNameTheRightOne) {
    const ScriptedServer server(kScript);
    const HttpAnswer get = server.get("/v1/chat/completions");
    EXPECT_EQ(get.status, 405);
    EXPECT_NE(get.headers.at("allow").find("POST"), std::string::npos);
    EXPECT_EQ(server.post("/v1/models", "{}").status, 405);
    EXPECT_EQ(test::http(server.port(), "DELETE", "/v1/messages").status, 405);
    EXPECT_EQ(test::http(server.port(), "OPTIONS", "/anything").status, 204);
}

TEST(Endpoints, Models) {
    const ScriptedServer server(kScript);
    const Json list = Json::parse(server.get("/v1/models").body);
    EXPECT_EQ(list["object"], "list");
    EXPECT_EQ(list["data"][0]["context_length"], 32768);
    const std::string id = list["data"][0]["id"];
    EXPECT_EQ(Json::parse(server.get("/v1/models/" + id).body)["id"], id);
    const HttpAnswer unknown = server.get("/v1/models/gpt-99");
    EXPECT_EQ(unknown.status, 404);
    EXPECT_EQ(Json::parse(unknown.body)["error"]["code"], "model_not_found");
    EXPECT_EQ(
        Json::parse(server.get("/v1/models", "anthropic-version: 2023-06-01\r\n").body)["data"][0]["type"],
        "model");
}

TEST(Endpoints, KeysAreAskedForInEveryDialect) {
    ServiceOptions options;
    options.api_key = "secret-key";
    const ScriptedServer server(kScript, options);
    const HttpAnswer openai = server.post("/v1/chat/completions", kBody);
    EXPECT_EQ(openai.status, 401);
    EXPECT_EQ(Json::parse(openai.body)["error"]["code"], "invalid_api_key");
    const HttpAnswer anthropic = server.post("/v1/messages", kBody, "x-api-key: wrong\r\n");
    EXPECT_EQ(anthropic.status, 401);
    EXPECT_EQ(Json::parse(anthropic.body)["error"]["type"], "authentication_error");
    for (const std::string header :
         {"Authorization: Bearer secret-ke\r\n", "Authorization: Bearer secret-key2\r\n",
          "Authorization: Bearer \r\n", "Authorization: secret-key\r\n"}) {
        EXPECT_EQ(server.post("/v1/chat/completions", kBody, header).status, 401) << header;
    }
    EXPECT_EQ(server.post("/v1/chat/completions", kBody, "Authorization: Bearer secret-key\r\n").status, 200);
    EXPECT_EQ(server.post("/v1/messages", kBody, "X-Api-Key: secret-key\r\n").status, 200);
    EXPECT_EQ(server.get("/v1/status").status, 401);
    EXPECT_EQ(server.get("/health").status, 200);
    EXPECT_EQ(server.get("/").status, 200);
}

TEST(Endpoints, StrangeHostNamesAreRefused) {
    ServiceOptions options;
    options.host_names = {"localhost"};
    const ScriptedServer server(kScript, options);
    const auto status = [&](const std::string& host) {
        test::HttpClient client(server.port());
        client.write("GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
        return client.read().status;
    };
    EXPECT_EQ(status("localhost:8000"), 200);
    EXPECT_EQ(status("127.0.0.1:8000"), 200);
    EXPECT_EQ(status("[::1]:8000"), 200);
    EXPECT_EQ(status("attacker.example:8000"), 403);
}

TEST(Endpoints, CorsOnlyIfAsked) {
    const ScriptedServer plain(kScript);
    EXPECT_FALSE(plain.get("/v1/models").headers.contains("access-control-allow-origin"));
    ServiceOptions options;
    options.cors = true;
    const ScriptedServer open(kScript, options);
    EXPECT_EQ(open.get("/v1/models").headers.at("access-control-allow-origin"), "*");
    EXPECT_EQ(open.get("/nowhere").headers.at("access-control-allow-origin"), "*");
    EXPECT_EQ(test::http(open.port(), "OPTIONS", "/v1/messages").headers.at("access-control-allow-headers"),
              "*");
    const HttpAnswer stream =
        open.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}],"stream":true})");
    EXPECT_EQ(stream.headers.at("access-control-allow-origin"), "*");
}

TEST(Endpoints, CountAndTokenizeAgree) {
    const ScriptedServer server(kScript);
    const int counted = Json::parse(server.post("/v1/messages/count_tokens", kBody).body)["input_tokens"];
    const Json tokens = Json::parse(server.post("/tokenize", kBody).body);
    EXPECT_EQ(tokens["count"], counted);
    const Json usage = Json::parse(server.post("/v1/chat/completions", kBody).body)["usage"];
    EXPECT_EQ(usage["prompt_tokens"], counted);
}

TEST(Endpoints, EffortMeansWhatTheWeightsWereTrainedFor) {
    const std::string body = R"({"messages":[{"role":"user","content":"hi"}],"reasoning_effort":"high"})";
    const auto prompt = [&](const ServiceOptions& options) {
        const ScriptedServer server(kScript, options);
        const Json tokens = Json::parse(server.post("/tokenize", body).body)["tokens"];
        return Json::parse(server.post("/detokenize", Json{{"tokens", tokens}}.dump()).body)["content"]
            .get<std::string>();
    };
    const std::string april = prompt({});
    ServiceOptions options;
    options.effort_scheme = chat::EffortScheme::release_0731;
    const std::string july = prompt(options);
    EXPECT_EQ(april.find("Reasoning Effort"), std::string::npos);
    EXPECT_NE(july.find("Reasoning Effort: Absolute maximum"), std::string::npos);
}

TEST(Endpoints, MetricsAndStatusCount) {
    const ScriptedServer server(kScript);
    EXPECT_EQ(server.post("/v1/chat/completions", kBody).status, 200);
    EXPECT_EQ(server.post("/v1/chat/completions", "{}").status, 400);
    EXPECT_EQ(server.metric("ds4_requests_total{path=\"/chat/completions\",status=\"200\"}"), 1);
    EXPECT_EQ(server.metric("ds4_requests_total{path=\"/chat/completions\",status=\"400\"}"), 1);
    EXPECT_EQ(server.metric("ds4_time_to_first_token_seconds_count"), 1);
    EXPECT_GT(server.metric("ds4_completion_tokens_total"), 0);
    const Json status = Json::parse(server.get("/v1/status").body);
    EXPECT_EQ(status["state"], "ready");
    EXPECT_GT(status["cache"]["prompt_tokens"].get<int>(), 0);
    EXPECT_EQ(status["slots"].size(), 2u);
}

TEST(Endpoints, SaysThatTheModelIsLoading) {
    Service service({});
    const HttpServer network(
        [] {
            HttpOptions options;
            options.port = 0;
            return options;
        }(),
        [&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
            service.handle(std::move(request), std::move(reply));
        },
        [&](const HttpRequest& request, const ApiError& why) { return service.refuse(request, why); });
    EXPECT_EQ(test::http(network.port(), "GET", "/health").status, 503);
    const HttpAnswer answer = test::http(network.port(), "POST", "/v1/messages", kBody);
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(Json::parse(answer.body)["error"]["type"], "overloaded_error");
    EXPECT_TRUE(answer.headers.contains("retry-after"));
}

}  // namespace
}  // namespace ds4::server
