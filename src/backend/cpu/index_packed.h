#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/index_kernel.h"

// Indexer scores from FP4 rows and queries as they are stored. Twice an FP4 value is an integer of magnitude
// at most 12, so the dot product of a block of 32 is an exact integer; only the sum over blocks, under their
// power-of-two scales, and the sum over heads round. The order of both is fixed, so that a score has the same
// bits on every instruction set. model.md 8, 9.2
namespace ds4::cpu {

// The queries of one token. Views into the caller's memory.
struct PackedIndexQuery {
    std::int8_t* codes;    // (n_heads, head_dim) twice the value under the block's scale
    float* scale;          // (n_heads, head_dim / 32)
    std::int32_t* offset;  // (n_heads, head_dim / 32) what kKeyOffset adds to the dot product, negated
};

// kIndexKeys keys, four values of a key side by side. Views into the caller's memory.
struct PackedIndexKeys {
    std::uint8_t* codes;  // (head_dim / 4, kIndexKeys, 4) twice the value plus kKeyOffset
    float* scale;         // (head_dim / 32, kIndexKeys) a quarter of the block's, for both codes are doubled
};
inline constexpr int kKeyOffset = 12;

// q (n), n a multiple of 32, on the FP4 grid of round_fp4.
void pack_index_query(const float* q, std::size_t n, const PackedIndexQuery& out);

// rows: kIndexKeys stored rows (quant::KvRowFormat::Code::fp4).
void pack_index_keys(const std::byte* const* rows, std::size_t head_dim, const PackedIndexKeys& out);

// scores[k] = sum_h weight[h] * max(0, q[h] . key k)
void packed_index_scores(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                         std::size_t head_dim, const PackedIndexKeys& keys, float* scores);

// The same without AVX-512 VNNI, for tests.
void packed_index_scores_without_vnni(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                                      std::size_t head_dim, const PackedIndexKeys& keys, float* scores);

#if defined(__x86_64__)
// The same for machines that have it.
void packed_index_scores_vnni(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                              std::size_t head_dim, const PackedIndexKeys& keys, float* scores);
#endif

}  // namespace ds4::cpu
