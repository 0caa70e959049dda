#include "server/trace.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "server/scripted_server.h"

namespace ds4::server {
namespace {

using Json = nlohmann::json;

TEST(Trace, MasksSecrets) {
    EXPECT_EQ(mask_secrets("key=hunter2!", {"hunter2", ""}), "key=***!");
    EXPECT_EQ(mask_secrets("use sk-abcdefghijklmnop1234 now", {}), "use *** now");
    EXPECT_EQ(mask_secrets("sk-ant-api03-0123456789abcdef", {}), "***");
    EXPECT_EQ(mask_secrets("import sk-learn; risk-0123456789abcdefgh", {}),
              "import sk-learn; risk-0123456789abcdefgh");
}

TEST(Trace, TellsWhatHappened) {
    const test::TemporaryDirectory dir;
    ServiceOptions options;
    options.trace = dir / "trace.jsonl";
    options.api_key = "the-secret";
    {
        const test::ScriptedServer server({{{"the-secret" + test::kThinks, "r</think>hello"}}}, options);
        const auto answer = server.post("/v1/chat/completions",
                                        R"({"messages":[{"role":"user","content":"tell the-secret"}]})",
                                        "Authorization: Bearer the-secret\r\n");
        ASSERT_EQ(answer.status, 200);
    }
    struct stat status {};
    ASSERT_EQ(::stat(options.trace.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    const std::string text = test::read_file(options.trace);
    EXPECT_EQ(text.find("the-secret"), std::string::npos);
    const Json record = Json::parse(text);
    EXPECT_NE(record["prompt"].get<std::string>().find("tell ***"), std::string::npos);
    EXPECT_EQ(record["answers"][0]["sampled"], "r</think>hello");
    EXPECT_EQ(record["answers"][0]["content"], "hello");
    EXPECT_EQ(record["answers"][0]["finish"], "stop");
    EXPECT_EQ(record["cache"], "cold");
    EXPECT_EQ(record["outcome"], "ok");
}

TEST(Trace, NeedsAPlaceToWrite) {
    EXPECT_THROW(Trace("/nonexistent/trace.jsonl", {}), IoError);
}

}  // namespace
}  // namespace ds4::server
