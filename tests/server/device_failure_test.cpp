// The whole server on the emulated GPU, which fails in the middle of an answer.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "backend/gpu/gpu_backend.h"
#include "backend/make_backend.h"
#include "server/faulty_device.h"
#include "server/http.h"
#include "server/http_client.h"
#include "server/log.h"
#include "server/service.h"
#include "synth/small_model.h"
#include "temporary_directory.h"

namespace ds4 {

test::Faults& faults() {
    static test::Faults all;
    return all;
}

// In place of the library's: every engine of this program runs on the faulty device.
std::unique_ptr<Backend> make_backend(BackendKind /*kind*/, int /*threads*/) {
    if (faults().is_lost) throw DeviceLostError("the GPU is lost: injected; restart the program");
    if (faults().n_failed_opens-- > 0) throw DeviceError("there is no GPU: injected");
    faults().n_failed_opens = 0;
    return make_gpu_backend(std::make_unique<test::FaultyDevice>(gpu::make_emulated_device(), faults()));
}

}  // namespace ds4

namespace ds4::server {
namespace {

using namespace std::chrono_literals;
using test::HttpAnswer;
using test::HttpClient;
using Json = nlohmann::json;

constexpr int kLayers = 3;
// An emulated GPU under the thread sanitizer, on a machine that has other things to do, takes seconds for a
// step.
constexpr auto kPatience = 120s;

// The whole server but for the command line. Leaves its checkpoints in `directory`.
class Server {
  public:
    explicit Server(const std::filesystem::path& directory) {
        log::set_level(log::Level::off);
        faults().n_opened = 0;
        faults().is_lost = false;
        synth::SynthOptions model = test::small_model(directory / "small.gguf");
        model.config.num_hidden_layers = kLayers;
        synth::write_model(model);
        EngineOptions options;
        options.model = model.out;
        options.max_batch = 64;
        options.backend = BackendKind::emulated;
        engine_ = Engine::open(options);

        ServiceOptions service;
        service.kv_directory = directory / "kv";
        service.kv_policy = {16, 30000, 16, 4, 16};
        service.scheduler.context = 256;
        service.scheduler.restart_wait = 10ms;
        service.scheduler.on_device_lost = [this] { ++n_losses_; };
        service_ = std::make_unique<Service>(service);
        service_->open(*engine_);
        HttpOptions http_options;
        http_options.port = 0;
        http_ = std::make_unique<HttpServer>(
            http_options,
            [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
                service_->handle(std::move(request), std::move(reply));
            },
            [this](const HttpRequest& request, const ApiError& why) {
                return service_->refuse(request, why);
            });
    }

    HttpAnswer post(const std::string& body) const {
        HttpClient client(port());
        client.request("POST", "/v1/completions", body);
        return client.read(kPatience);
    }
    std::uint16_t port() const { return http_->port(); }
    int health() const { return test::http(port(), "GET", "/health").status; }
    int n_losses() const { return n_losses_; }  // times that its owner was told to start anew

  private:
    std::atomic<int> n_losses_{0};
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Service> service_;
    std::unique_ptr<HttpServer> http_;
};

class DeviceFailure : public testing::Test {
  protected:
    static std::string ask(const std::string& prompt, int n, bool stream = false) {
        return Json{{"prompt", prompt}, {"max_tokens", n}, {"temperature", 0}, {"stream", stream}}.dump();
    }
    HttpAnswer post(const std::string& body) const { return server_->post(body); }
    std::uint16_t port() const { return server_->port(); }
    int health() const { return server_->health(); }
    const Server& server() const { return *server_; }
    // As a new process does, on the same files.
    void start_anew() {
        server_.reset();
        server_ = std::make_unique<Server>(directory_.path());
    }

  private:
    test::TemporaryDirectory directory_;
    std::unique_ptr<Server> server_ = std::make_unique<Server>(directory_.path());
};

const std::string kPrompt = "It was a bright cold day";

TEST_F(DeviceFailure, TheNextRequestIsAnsweredAsBeforeFromTheDisk) {
    const Json before = Json::parse(post(ask(kPrompt, 2)).body);

    // Two run when it happens: one streams, the other waits for its whole answer.
    HttpClient stream(port()), whole(port());
    stream.request("POST", "/v1/completions", ask("Once", 150, true));
    ASSERT_TRUE(stream.read_until("data: ", kPatience));
    whole.request("POST", "/v1/completions", ask("Twice", 150));
    while (Json::parse(test::http(port(), "GET", "/v1/status").body)["slots"][1]["phase"] != "decode" &&
           Json::parse(test::http(port(), "GET", "/v1/status").body)["slots"][0]["phase"] != "decode")
        std::this_thread::sleep_for(1ms);
    faults().n_failed_opens = 2;
    faults().fails_next = true;
    EXPECT_TRUE(stream.read_until("The GPU failed", kPatience));
    const HttpAnswer failed = whole.read(kPatience);
    EXPECT_EQ(failed.status, 503);
    EXPECT_EQ(failed.headers.count("retry-after"), 1U);
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (health() != 200 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(5ms);
    EXPECT_EQ(faults().n_opened, 2);

    // A device with room for a session, but not for what is on the disk, does not cost the file.
    faults().n_allocations_left = kLayers;
    EXPECT_EQ(post(ask(kPrompt, 2)).status, 503);
    faults().n_allocations_left = test::Faults::kMany;
    const Json after = Json::parse(post(ask(kPrompt, 2)).body);
    ASSERT_TRUE(after.contains("choices")) << after.dump();
    EXPECT_EQ(after["choices"][0]["text"], before["choices"][0]["text"]);
    EXPECT_GE(after["usage"]["prompt_tokens_details"]["cached_tokens"], 16);
}

TEST_F(DeviceFailure, OneThatIsLostToTheProcessIsThereForTheNext) {
    const Json before = Json::parse(post(ask(kPrompt, 2)).body);
    HttpClient stream(port());
    stream.request("POST", "/v1/completions", ask("Once", 150, true));
    ASSERT_TRUE(stream.read_until("data: ", kPatience));
    faults().is_lost = true;
    faults().fails_next = true;
    EXPECT_TRUE(stream.read_until("The GPU failed", kPatience));
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (server().n_losses() == 0 && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(5ms);
    EXPECT_EQ(health(), 503);
    for (int i = 0; i < 2; ++i) {
        const HttpAnswer refused = post(ask(kPrompt, 2));
        EXPECT_EQ(refused.status, 503);
        EXPECT_EQ(refused.headers.count("retry-after"), 1U);
    }
    EXPECT_EQ(server().n_losses(), 1);

    start_anew();
    const Json after = Json::parse(post(ask(kPrompt, 2)).body);
    ASSERT_TRUE(after.contains("choices")) << after.dump();
    EXPECT_EQ(after["choices"][0]["text"], before["choices"][0]["text"]);
    EXPECT_GE(after["usage"]["prompt_tokens_details"]["cached_tokens"], 16);
    EXPECT_EQ(server().n_losses(), 0);
}

TEST_F(DeviceFailure, AFullDeviceFailsTheRequestAndNothingElse) {
    const Json before = Json::parse(post(ask(kPrompt, 2)).body);
    faults().n_allocations_left = 0;
    const HttpAnswer full = post(ask("Something", 2));
    faults().n_allocations_left = test::Faults::kMany;
    EXPECT_EQ(full.status, 503);
    EXPECT_NE(full.body.find("use a shorter --ctx"), std::string::npos) << full.body;
    EXPECT_EQ(health(), 200);
    EXPECT_EQ(Json::parse(post(ask(kPrompt, 2)).body)["choices"], before["choices"]);
}

// ---- when the model is loaded ----

class DeviceAtLoad : public testing::Test {
  protected:
    // What the user reads; empty: it loads.
    std::string error_of_open() {
        synth::SynthOptions model = test::small_model(directory_ / "small.gguf");
        model.config.num_hidden_layers = kLayers;
        synth::write_model(model);
        EngineOptions options;
        options.model = model.out;
        options.plan_sessions = 2;
        options.plan_context = 256;
        std::string what;
        try {
            Engine::open(options);
        } catch (const DeviceError& error) {
            what = error.what();
        }
        faults().n_allocations_left = test::Faults::kMany;
        EXPECT_EQ(what.find('\n'), std::string::npos);
        return what;
    }

  private:
    test::TemporaryDirectory directory_;
};

TEST_F(DeviceAtLoad, NoRoomInSpiteOfThePlanShowsThePlan) {
    for (const int n_allocations : {0, 20, 90}) {  // the step table, weights, the workspace
        faults().n_allocations_left = n_allocations;
        const std::string what = error_of_open();
        EXPECT_NE(what.find("the GPU is full; use a shorter --ctx"), std::string::npos) << what;
        if (n_allocations == 0) continue;
        EXPECT_NE(what.find("planned: "), std::string::npos) << what;
        EXPECT_NE(what.find("weights "), std::string::npos) << what;
        EXPECT_NE(what.find("for 2 x 256 tokens"), std::string::npos) << what;
    }
    EXPECT_EQ(error_of_open(), "");
}

TEST_F(DeviceAtLoad, NoDeviceIsOneLine) {
    faults().n_failed_opens = 1;
    EXPECT_EQ(error_of_open(), "there is no GPU: injected");
}

}  // namespace
}  // namespace ds4::server
