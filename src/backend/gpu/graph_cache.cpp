#include "backend/gpu/graph_cache.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace ds4::gpu {

static_assert(sizeof(Launch) == 16 + kArgsBytes, "padding would be hashed");

void GraphCache::run(std::span<const Launch> launches) {
    const std::uint64_t hash = xxh3(std::as_bytes(launches));
    const auto same = [&](const Entry& e) {
        return e.hash == hash &&
               std::equal(e.launches.begin(), e.launches.end(), launches.begin(), launches.end());
    };
    const auto found = std::find_if(entries_.begin(), entries_.end(), same);
    if (found != entries_.end()) {
        entries_.splice(entries_.begin(), entries_, found);
        ++n_replays_;
        return device_.run(*entries_.front().graph);
    }
    if (!was_seen(hash)) return device_.run(launches);
    entries_.push_front({hash, {launches.begin(), launches.end()}, device_.make_graph(launches)});
    if (entries_.size() > kMaxGraphs) entries_.pop_back();
    ++n_replays_;
    device_.run(*entries_.front().graph);
}

// Remembers a list that was not.
bool GraphCache::was_seen(std::uint64_t hash) {
    if (std::find(seen_.begin(), seen_.end(), hash) != seen_.end()) return true;
    seen_[next_seen_] = hash;
    next_seen_ = (next_seen_ + 1) % seen_.size();
    return false;
}

}  // namespace ds4::gpu
