#pragma once

#include <cstddef>

// The inner loops of attention, vectorised for the instruction set found at run time.
namespace ds4::cpu {

inline constexpr std::size_t kHeadTile = 8;    // heads come in multiples of this; the places behind are zero
inline constexpr std::size_t kKeyBlock = 128;  // keys between two looks at the running maximum
inline constexpr std::size_t kKeyTile = 4;     // keys come in multiples of this; the places behind are zero

// Values of a row of `d` with the zeroes behind it that the kernel wants, and from row to row: rows a power
// of two apart would meet in few sets of the cache.
constexpr std::size_t padded_width(std::size_t d) {
    return (d + 31) / 32 * 32;
}
constexpr std::size_t padded_stride(std::size_t d) {
    return padded_width(d) + 16;
}

// The online softmax of one head: the largest score so far, and the sum of exp(score - top).
struct SoftmaxState {
    float top;
    float sum;
};

// Takes a block of n_keys <= kKeyBlock keys (= values) into n_heads heads with queries and accumulators:
// acc = sum of exp(score - top) * key. q, acc (n_heads, d) and keys (n_keys, d) as padded rows; scores: room
// for n_heads * kKeyBlock. Each head's result is the same whatever the others and n_heads are.
void attend_block(const float* q, std::size_t n_heads, const float* keys, std::size_t n_keys, std::size_t d,
                  float scale, float* scores, SoftmaxState* state, float* acc);

// Joins a block that was taken in by itself (from top = -infinity, sum = 0 and zeroes) to those before it,
// with the same bits as if attend_block had met it there. block, acc (n_heads, d) as padded rows.
void merge_block(const SoftmaxState* block_state, const float* block, std::size_t n_heads, std::size_t d,
                 SoftmaxState* state, float* acc);

}  // namespace ds4::cpu
