#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "ds4/engine.h"
#include "model/kv_state.h"

namespace ds4 {

struct Session::Impl {
    Impl(Engine& e, std::unique_ptr<KvState> state, std::int64_t context_tokens)
        : engine(e), kv(std::move(state)), context(context_tokens) {}

    // Throws ContextError naming both numbers if n more tokens do not fit.
    void check_room(std::int64_t n) const;
    void mark();
    // mark() if the last remembered point is far behind.
    void mark_sometimes();

    // A point to return to. One of Flash is 23 MB of state and 0.5 MB of logits, so eight cost less than the
    // weights of one expert layer.
    struct Point {
        KvState::Snapshot state;
        std::vector<float> logits;  // (vocab)
    };
    static constexpr std::int64_t kPointTokens = 512;
    static constexpr std::size_t kMaxPoints = 8;

    Engine& engine;
    std::unique_ptr<KvState> kv;
    std::int64_t context;
    std::vector<TokenId> tokens;
    std::vector<float> logits;  // (vocab), empty before the first token
    std::deque<Point> points;   // ascending n_tokens
};

}  // namespace ds4
