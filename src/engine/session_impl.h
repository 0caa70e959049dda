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
    // Remembers the present point for truncate(); the oldest point is forgotten when there are many.
    void take_snapshot();

    // Points to return to: the start of every append() and one per this many tokens of a long one. A snapshot
    // of Flash is 23 MB, so eight cost less than the weights of one expert layer.
    static constexpr std::int64_t kSnapshotTokens = 512;
    static constexpr std::size_t kMaxSnapshots = 8;

    Engine& engine;
    std::unique_ptr<KvState> kv;
    std::int64_t context;
    std::vector<TokenId> tokens;
    std::vector<float> logits;                // (vocab), empty before the first token
    std::deque<KvState::Snapshot> snapshots;  // ascending n_tokens
};

}  // namespace ds4
