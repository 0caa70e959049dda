#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "base/hash.h"
#include "ds4/engine.h"

namespace ds4::test {

// What a model says after any tokens: computed by a session of its own, from the first token on.
class Oracle {
  public:
    explicit Oracle(Engine& engine) : engine_(engine) {}

    // Of the logits of the whole vocabulary, bit by bit.
    static std::uint64_t digest(std::span<const float> logits) { return xxh3(std::as_bytes(logits)); }

    std::uint64_t after(std::span<const TokenId> tokens) {
        const auto known = known_.find(name_of(tokens));
        if (known != known_.end()) return known->second;
        const auto session = engine_.new_session();
        Session::AppendOptions keep;
        keep.on_logits = [&](std::int64_t position, std::span<const float> logits) {
            known_[name_of(tokens.first(static_cast<std::size_t>(position) + 1))] = digest(logits);
        };
        session->append(tokens, keep);
        return known_.at(name_of(tokens));
    }

  private:
    static std::uint64_t name_of(std::span<const TokenId> tokens) { return xxh3(std::as_bytes(tokens)); }

    Engine& engine_;
    std::unordered_map<std::uint64_t, std::uint64_t> known_;
};

}  // namespace ds4::test
