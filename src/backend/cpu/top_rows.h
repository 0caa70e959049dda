#pragma once

#include <cstddef>
#include <cstdint>

namespace ds4::cpu {

// The k rows with the largest of n scores, ascending; of equal scores the lower rows. 1 <= k <= n; no score
// is -0. Works on whole vectors: up to 16 values behind the scores are read, and ranks, room to work in, has
// n + 16 places.
void top_rows(const float* scores, std::size_t n, std::size_t k, std::int32_t* ranks, std::int32_t* rows);

}  // namespace ds4::cpu
