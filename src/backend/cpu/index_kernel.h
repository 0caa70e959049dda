#pragma once

#include <cstddef>

// The inner loop of the indexer, vectorised for the instruction set found at run time.
namespace ds4::cpu {

inline constexpr std::size_t kIndexKeys = 32;  // keys scored at a time

// scores[k] = sum_h weight[h] * max(0, q[h] . key k) for a transposed block of keys (head_dim, kIndexKeys).
// q (n_heads, head_dim), weight (n_heads). A score depends on its own key alone, not on its place in the
// block.
void index_scores(const float* q, const float* weight, std::size_t n_heads, std::size_t head_dim,
                  const float* keys, float* scores);

}  // namespace ds4::cpu
