#include "server/checkpoint_policy.h"

#include <algorithm>
#include <limits>

namespace ds4::server {

std::int64_t CheckpointPolicy::cold_length(std::int64_t n_prompt, std::int64_t anchor) const {
    if (cold_max == 0 || n_prompt < min_tokens || n_prompt > cold_max) return 0;
    if (anchor >= std::max<std::int64_t>(1, min_tokens)) return anchor;
    const std::int64_t trimmed = std::max<std::int64_t>(0, n_prompt - boundary_trim);
    const std::int64_t aligned = boundary_align > 0 ? trimmed / boundary_align * boundary_align : trimmed;
    return aligned >= std::max<std::int64_t>(1, min_tokens) ? aligned : n_prompt;
}

std::int64_t CheckpointPolicy::step() const {
    if (continued_interval == 0) return 0;
    const std::int64_t align = std::max<std::int64_t>(1, boundary_align);
    return (continued_interval + align - 1) / align * align;
}

std::int64_t CheckpointPolicy::next_continued(std::int64_t n) const {
    if (step() == 0) return std::numeric_limits<std::int64_t>::max();
    return (n / step() + 1) * step();
}

}  // namespace ds4::server
