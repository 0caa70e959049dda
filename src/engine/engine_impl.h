#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ds4/engine.h"
#include "engine/device_plan.h"
#include "gguf/gguf.h"
#include "model/forward.h"
#include "model/kv_state.h"
#include "tokenizer/tokenizer.h"

namespace ds4 {

class ProfilingBackend;

struct Engine::Impl {
    explicit Impl(const EngineOptions& o);

    // What is lost with the device, and made again by restart().
    struct Running {
        explicit Running(const Impl& engine);

        std::unique_ptr<Backend> backend;
        ProfilingBackend* profiler;  // the backend, if it is one
        EngineOptions options;       // the engine's, with the backend's max_batch where they leave it open
        std::optional<DevicePlan> plan;  // of a device with memory of its own
        WeightStore store;
        Weights weights;
        Forward forward;
    };

    EngineOptions options;
    gguf::File file;
    Config config;
    std::optional<tokenizer::Tokenizer> tokenizer;
    KvLayout layout;
    std::unique_ptr<Running> running_or_null;  // nullptr: a restart has failed
    std::string description;                   // of the backend
    std::int64_t max_batch;
    bool has_device_memory;
    std::shared_ptr<KvMeter> meter = std::make_shared<KvMeter>(0);
    std::string fingerprint;
    ModelInfo info;

    // The batch of the step in progress; members so that a step allocates nothing in steady state.
    std::mutex step_mutex;
    std::vector<TokenId> tokens;
    std::vector<std::int32_t> positions;
    std::vector<Segment> segments;
    std::vector<KvState*> states;
    std::vector<HeadRow> last_rows;            // of the sessions that want no others
    std::vector<Session::Impl*> far_sessions;  // whose logits are in the workspace

    Running& running() const;                                // throws DeviceError
    std::int64_t check_context(std::int64_t context) const;  // 0: the most there is
    void check_token(TokenId token) const;
    void check(std::span<const Work> work) const;
    void collect(std::span<const Work> work);
    // Of a session that has left its logits in the workspace. Under step_mutex.
    void fetch_logits(Session::Impl& session);
    // The workspace is needed; the logits of these sessions are not.
    void clear_workspace(std::span<const Work> work);
    // Leaves every session's logits as they are after its last token.
    void finish(std::span<const Work> work);
};

// Engine::kv_fingerprint.
std::string kv_fingerprint(const gguf::File& file, const ForwardOptions& options);

struct Checkpoint::Impl {
    Engine::Impl& engine;
    KvCheckpoint kv;
    std::vector<float> logits;  // (vocab)
    KvBytes held;               // by the logits
};

}  // namespace ds4
