#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "chat/messages.h"

namespace ds4::chat {

// The call blocks that were sampled, by the ids that clients know their calls by. A client sends a call back
// as JSON, in an order and spelling of its own; written anew it would differ from what the model holds, and
// everything behind it would have to be computed again (api.md 7). Thread-safe; the least recently used go
// first.
class ToolMemory {
  public:
    using Block = std::shared_ptr<const std::string>;

    explicit ToolMemory(std::size_t max_ids = 100'000, std::size_t max_bytes = std::size_t{512} << 20);

    // `block`: from the white space before the start tag to the end of the end tag, holding the calls of all
    // `ids`.
    void store(std::span<const std::string> ids, const std::string& block);
    // The block that these are the ids of; nullptr if one is unknown or they are of several blocks.
    std::shared_ptr<const std::string> find(std::span<const std::string> ids) const;

    struct Known {
        std::string id;
        Block block;
    };
    // Every id whose block stands in this text.
    std::vector<Known> find_in(std::string_view text) const;

    std::size_t n_ids() const;
    std::size_t n_bytes() const;

  private:
    struct Entry {
        std::string id;
        Block block;
    };
    struct Shared {
        Block block;
        std::size_t n_ids = 0;
    };

    void add(const std::string& id, const std::string& block);
    void forget_oldest();

    const std::size_t max_ids_, max_bytes_;
    mutable std::mutex mutex_;
    mutable std::list<Entry> entries_;  // most recently used first
    std::unordered_map<std::string, std::list<Entry>::iterator> by_id_;
    std::unordered_map<std::string_view, Shared> by_text_;  // the keys are the blocks' own text
    std::size_t n_bytes_ = 0;                               // of ids and distinct blocks
};

// How the turns with calls of a prompt were written.
struct ReplayCounts {
    std::size_t exact = 0;    // as sampled
    std::size_t edited = 0;   // anew: the client's calls are not those of the block
    std::size_t missing = 0;  // anew: nothing is remembered
};

// The remembered block of these calls if it says what they say; names and arguments are compared as JSON,
// whatever the order of keys. nullptr: write them anew.
std::shared_ptr<const std::string> find_exact_block(const ToolMemory& memory,
                                                    const std::vector<ToolCall>& calls, ReplayCounts& counts);

}  // namespace ds4::chat
