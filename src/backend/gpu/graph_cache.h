#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/ops.h"

namespace ds4::gpu {

// Lists of operations that come again are replayed as graphs, without being lowered again. What changes from
// step to step is read from the step table, so the lists of steps of one shape are equal. A list becomes
// graphs when it comes for the second time, for most lists of a prompt never do.
class GraphCache {
  public:
    static constexpr std::size_t kMaxLists = 16;  // those not used for the longest time go first

    explicit GraphCache(Device& device) : device_(device) {}

    // Starts what these operations became when they came before. Whether it is known. Throws what the device
    // throws.
    bool replay(std::span<const ops::Op> ops);
    // Starts the launches, in order, that these operations, which are not known, have become. Throws
    // likewise.
    void run(std::span<const ops::Op> ops, std::span<const Launch> launches);
    // Forgets all lists: the same operations would become other launches now.
    void clear();

    std::size_t n_lists() const { return known_.size(); }
    std::uint64_t n_replays() const { return n_replays_; }

  private:
    struct Known {
        std::vector<ops::Op> ops;
        std::vector<std::unique_ptr<Graph>> graphs;
    };

    bool was_seen(std::uint64_t hash);

    Device& device_;
    std::list<Known> known_;  // the last used one first
    // Hashes of launches that are no graphs yet. A step has few lists: the layers and the head.
    std::array<std::uint64_t, 8> seen_{};
    std::size_t next_seen_ = 0;
    std::uint64_t n_replays_ = 0;
};

}  // namespace ds4::gpu
