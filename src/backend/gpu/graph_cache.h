#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "backend/gpu/device.h"

namespace ds4::gpu {

// Lists of launches that come again are replayed as graphs. Two lists are the same if their kernels, grids
// and arguments are; what changes from step to step is read from the step table, so the lists of steps of one
// shape are. A list becomes a graph when it comes for the second time, for most lists of a prompt never do.
class GraphCache {
  public:
    static constexpr std::size_t kMaxGraphs = 16;  // those not used for the longest time go first

    explicit GraphCache(Device& device) : device_(device) {}

    // Starts the launches, in order. Throws what the device throws.
    void run(std::span<const Launch> launches);

    std::size_t n_graphs() const { return entries_.size(); }
    std::uint64_t n_replays() const { return n_replays_; }

  private:
    struct Entry {
        std::uint64_t hash;
        std::vector<Launch> launches;
        std::unique_ptr<Graph> graph;
    };

    bool was_seen(std::uint64_t hash);

    Device& device_;
    std::list<Entry> entries_;  // the last used one first
    // Of lists that are no graphs yet. A step has few lists: the layers and the head.
    std::array<std::uint64_t, 8> seen_{};
    std::size_t next_seen_ = 0;
    std::uint64_t n_replays_ = 0;
};

}  // namespace ds4::gpu
