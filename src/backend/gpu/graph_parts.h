#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace ds4::gpu {

// Sizes of the graphs that a list of launches becomes. The device starts with the first one while the host
// starts the second, and so on: the first is small, each of the others twice as large as the one before.
inline std::vector<std::size_t> graph_parts(std::size_t n_launches) {
    constexpr std::size_t kFirst = 24;
    std::vector<std::size_t> parts;
    for (std::size_t n = kFirst; n_launches > 0; n *= 2) {
        parts.push_back(std::min(n, n_launches));
        n_launches -= parts.back();
    }
    return parts;
}

}  // namespace ds4::gpu
