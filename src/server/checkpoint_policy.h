#pragma once

#include <cstdint>

namespace ds4::server {

// When a session is written to the disk, api.md 9.3. All in tokens.
struct CheckpointPolicy {
    std::int64_t min_tokens = 512;            // shorter states are neither written nor used
    std::int64_t cold_max = 30000;            // longest prompt of which a cold checkpoint is taken; 0: none
    std::int64_t continued_interval = 10000;  // between checkpoints of a growing session; 0: none
    std::int64_t boundary_trim = 32;     // at the end of a cold prompt, which the next one may tokenize anew
    std::int64_t boundary_align = 2048;  // 0: none

    // Where to stop in a prompt that was not cached at all: at its anchor (chat::anchor_of), else somewhat
    // before its end. 0: nowhere.
    std::int64_t cold_length(std::int64_t n_prompt, std::int64_t anchor) const;
    // Distance between two places of continued checkpoints; 0: there are none.
    std::int64_t step() const;
    // The first such place after n tokens.
    std::int64_t next_continued(std::int64_t n) const;
    bool is_continued(std::int64_t n) const { return step() > 0 && n >= min_tokens && n % step() == 0; }
};

}  // namespace ds4::server
