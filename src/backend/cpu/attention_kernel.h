#pragma once

#include <cstddef>

// The inner loops of attention, vectorised for the instruction set found at run time.
namespace ds4::cpu {

inline constexpr std::size_t kHeadTile = 4;   // heads that share each load of a key
inline constexpr std::size_t kKeyBlock = 32;  // keys between two looks at the running maximum

// The online softmax of one head: the largest score so far, and the sum of exp(score - top).
struct SoftmaxState {
    float top;
    float sum;
};

// Takes a block of at most kKeyBlock keys (= values) of width d into n_heads <= kHeadTile heads with queries
// and accumulators (n_heads, d): acc = sum of exp(score - top) * key. Each head's result is the same whatever
// the others and n_heads are.
void attend_block(const float* q, std::size_t n_heads, const float* const* keys, std::size_t n_keys,
                  std::size_t d, float scale, SoftmaxState* state, float* acc);

}  // namespace ds4::cpu
