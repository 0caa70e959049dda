#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace ds4::cpu {

// Items per piece of a parallel loop: a piece of fewer than about 16 thousand elementary steps is not worth
// waking a thread for.
inline std::size_t grain_for(std::int64_t steps_per_item) {
    constexpr std::int64_t kSteps = 16384;
    return static_cast<std::size_t>(
        std::max<std::int64_t>(1, kSteps / std::max<std::int64_t>(1, steps_per_item)));
}

}  // namespace ds4::cpu
