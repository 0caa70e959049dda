// Ten thousand requests to ds4-server with the bundled model.
#include <gtest/gtest.h>

#include "apps/running_server.h"
#include "server/http_client.h"

namespace ds4 {
namespace {

TEST(Soak, MemoryStaysWhereItIs) {
    const test::RunningServer server({"--log-level", "warning"});
    test::HttpClient client(server.port());
    const auto serve = [&](int n) {
        for (int i = 0; i < n; ++i) {
            const std::string stream = i % 2 == 0 ? "true" : "false";
            client.request(
                "POST", "/v1/chat/completions",
                R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":)" + stream + "}");
            ASSERT_TRUE(client.read().is_complete);
        }
    };
    serve(100);
    const auto before = static_cast<double>(server.resident_bytes());
    serve(9900);
    EXPECT_LT(static_cast<double>(server.resident_bytes()), 1.05 * before);
}

}  // namespace
}  // namespace ds4
