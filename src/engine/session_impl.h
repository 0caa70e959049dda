#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ds4/engine.h"
#include "model/kv_state.h"

namespace ds4 {

struct Session::Impl {
    Impl(Engine& e, std::unique_ptr<KvState> state, std::int64_t context_tokens)
        : engine(e), kv(std::move(state)), context(context_tokens) {}
    ~Impl() { forget_logits(); }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    // Throws ContextError naming both numbers if n more tokens do not fit.
    void check_room(std::int64_t n) const;
    void mark();
    // mark() if the last remembered point is far behind.
    void mark_sometimes();
    void thin_points(std::size_t n);

    // Where a frontier of ratio 128 is empty, a point of Flash is 4 MB instead of up to 14, so those are
    // waited for.
    static constexpr std::int64_t kCheapPoint = 128;
    static constexpr std::int64_t kPointTokens = 512;
    static constexpr std::int64_t kMostPointTokens = 2048;
    static constexpr std::size_t kMaxPoints = 32;

    // Logits may be left in the engine's workspace; it fetches them before it needs that for others.
    void fetch_logits();
    void forget_logits();

    Engine& engine;
    std::unique_ptr<KvState> kv;
    std::int64_t context;
    std::vector<float> logits;          // (vocab), empty before the first token
    std::optional<TokenId> best;        // of the logits, if it was asked for
    const float* far_logits = nullptr;  // (vocab) not null: `logits` are there; under the engine's step_mutex
    bool has_left_logits = false;       // ever
    std::vector<CheckpointPtr> points;  // ascending n_tokens
};

}  // namespace ds4
