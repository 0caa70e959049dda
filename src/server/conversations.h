#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "ds4/engine.h"
#include "server/job.h"

namespace ds4::server {

// A conversation that can be gone on with.
struct Conversation {
    std::vector<TokenId> tokens;
    std::vector<CheckpointPtr> points;  // ascending
    std::optional<VisibleText> visible;
    std::int64_t last_used = 0;  // ticks
};

// What of a conversation a prompt can go on from.
struct Reuse {
    std::int64_t n_tokens = 0;  // that need not be computed
    std::size_t n_points = 0;   // of the conversation's, the last of which is there; 0: it is the live end
    std::size_t visible_bytes = 0;  // not 0: by its visible text, of so many bytes
};

// live_end: the conversation's own end can be used, although it may be no point.
Reuse find_reuse(const Job& job, std::span<const TokenId> tokens, std::span<const CheckpointPtr> points,
                 const std::optional<VisibleText>& visible, bool live_end);

// The prompt's tokens when it goes on from there; `tokens`: the conversation's.
std::vector<TokenId> prompt_tokens(const Job& job, std::span<const TokenId> tokens, const Reuse& reuse);

// Conversations that no slot holds: their last points and whatever rows only they need. The least recently
// used go first.
class ParkedConversations {
  public:
    void add(Conversation conversation);
    // The one that saves most; nullptr if none saves more than `least` tokens.
    Conversation* find(const Job& job, std::int64_t least, Reuse& reuse);
    void remove(const Conversation* conversation);
    // Frees some memory: far points first, then the conversation. False if there is nothing left.
    bool shrink();
    void clear() { parked_.clear(); }

    std::size_t size() const { return parked_.size(); }
    const std::list<Conversation>& all() const { return parked_; }

  private:
    std::list<Conversation> parked_;  // most recently used first
};

}  // namespace ds4::server
