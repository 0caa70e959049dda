// Compiled with AVX-512 VNNI, so nothing may be included here that leaves functions for other files to share.
#include <immintrin.h>

#include "backend/cpu/index_packed.h"

namespace ds4::cpu {
namespace {

constexpr std::size_t kBlock = 32;   // values under one scale
constexpr std::size_t kVectors = 2;  // of 16 keys
constexpr std::size_t kHeads = 4;    // that share each load of a key
static_assert(kIndexKeys == kVectors * 16);

// totals += weight[h] * max(0, q[h] . key) for kSome heads, in the order of the heads
template <std::size_t kSome>
inline void add_heads(const std::int8_t* q, const float* scale, const std::int32_t* offset,
                      const float* weight, std::size_t head_dim, const PackedIndexKeys& keys,
                      __m512 (&totals)[kVectors]) {
    const std::size_t n_blocks = head_dim / kBlock;
    __m512 dots[kSome][kVectors];
#pragma GCC unroll 8
    for (std::size_t h = 0; h < kSome; ++h) dots[h][0] = dots[h][1] = _mm512_setzero_ps();
    for (std::size_t b = 0; b < n_blocks; ++b) {
        __m512i sums[kSome][kVectors];
#pragma GCC unroll 8
        for (std::size_t h = 0; h < kSome; ++h) {
            sums[h][0] = sums[h][1] = _mm512_set1_epi32(offset[h * n_blocks + b]);
        }
#pragma GCC unroll 8
        for (std::size_t j = 0; j < kBlock; j += 4) {
            const std::size_t i = b * kBlock + j;
            const __m512i key0 = _mm512_loadu_si512(keys.codes + i * kIndexKeys);
            const __m512i key1 = _mm512_loadu_si512(keys.codes + i * kIndexKeys + 64);
#pragma GCC unroll 8
            for (std::size_t h = 0; h < kSome; ++h) {
                int four;
                __builtin_memcpy(&four, q + h * head_dim + i, sizeof four);
                const __m512i query = _mm512_set1_epi32(four);
                sums[h][0] = _mm512_dpbusd_epi32(sums[h][0], key0, query);
                sums[h][1] = _mm512_dpbusd_epi32(sums[h][1], key1, query);
            }
        }
        const __m512 of_key0 = _mm512_loadu_ps(keys.scale + b * kIndexKeys);
        const __m512 of_key1 = _mm512_loadu_ps(keys.scale + b * kIndexKeys + 16);
#pragma GCC unroll 8
        for (std::size_t h = 0; h < kSome; ++h) {
            const __m512 of_query = _mm512_set1_ps(scale[h * n_blocks + b]);
            const __m512 dot0 = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[h][0]), of_key0);
            const __m512 dot1 = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[h][1]), of_key1);
            dots[h][0] = _mm512_fmadd_ps(dot0, of_query, dots[h][0]);
            dots[h][1] = _mm512_fmadd_ps(dot1, of_query, dots[h][1]);
        }
    }
#pragma GCC unroll 8
    for (std::size_t h = 0; h < kSome; ++h) {
        const __m512 factor = _mm512_set1_ps(weight[h]);
        for (std::size_t v = 0; v < kVectors; ++v) {
            const __m512 positive = _mm512_max_ps(dots[h][v], _mm512_setzero_ps());
            totals[v] = _mm512_add_ps(totals[v], _mm512_mul_ps(factor, positive));
        }
    }
}

}  // namespace

void packed_index_scores_vnni(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                              std::size_t head_dim, const PackedIndexKeys& keys, float* scores) {
    const std::size_t n_blocks = head_dim / kBlock;
    __m512 totals[kVectors] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    std::size_t h = 0;
    for (; h + kHeads <= n_heads; h += kHeads) {
        add_heads<kHeads>(q.codes + h * head_dim, q.scale + h * n_blocks, q.offset + h * n_blocks, weight + h,
                          head_dim, keys, totals);
    }
    for (; h < n_heads; ++h) {
        add_heads<1>(q.codes + h * head_dim, q.scale + h * n_blocks, q.offset + h * n_blocks, weight + h,
                     head_dim, keys, totals);
    }
    for (std::size_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(scores + v * 16, totals[v]);
}

}  // namespace ds4::cpu
