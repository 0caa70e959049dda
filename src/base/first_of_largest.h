#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>

namespace ds4 {

// The index of the first of the largest values; 0 if all are -infinity or NaN, which are never it. Lanes side
// by side are what a compiler makes vector code of.
inline std::size_t first_of_largest(std::span<const float> values) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    std::array<float, 16> lanes;
    lanes.fill(kNever);
    std::size_t i = 0;
    for (; i + lanes.size() <= values.size(); i += lanes.size()) {
        for (std::size_t k = 0; k < lanes.size(); ++k)
            lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
    }
    float top = *std::max_element(lanes.begin(), lanes.end());
    for (; i < values.size(); ++i) top = values[i] > top ? values[i] : top;
    if (top == kNever) return 0;
    return static_cast<std::size_t>(std::find(values.begin(), values.end(), top) - values.begin());
}

}  // namespace ds4
