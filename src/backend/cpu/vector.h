#pragma once

#include <cstddef>

// Operations on rows of f32, vectorised for the instruction set found at run time. The order of every sum
// depends on the length of the row alone.
namespace ds4::cpu {

float sum_of_squares(const float* x, std::size_t n);

// y = gain * (x * scale); gain nullptr: 1. y may be x.
void scale(const float* x, float scale, const float* gain, std::size_t n, float* y);

// y += x
void add(const float* x, std::size_t n, float* y);

// Turns the pairs (x[2 i], x[2 i + 1]) of n values by the angles of a table of rope_tables.h, in n_heads
// heads that are `stride` apart; inverse turns back.
void rotate_pairs(const float* table, bool inverse, std::size_t n, float* x, std::size_t n_heads,
                  std::size_t stride);

// out = weight * silu(min(gate, clamp)) * clamp(up, -clamp, clamp); clamp <= 1e-6 means none. out may be
// gate.
void swiglu(const float* gate, const float* up, float clamp, float weight, std::size_t n, float* out);

// out = sum_m weight[m] * streams[m]. streams (n_streams, n)
void collapse_streams(const float* weight, const float* streams, std::size_t n_streams, std::size_t n,
                      float* out);

// streams[k] = post[k] * y + sum_j comb[j][k] * streams[j], in place. streams (n_streams, n), n_streams <= 16
void expand_streams(const float* post, const float* comb, const float* y, std::size_t n_streams,
                    std::size_t n, float* streams);

// out[i] = sum_s softmax_s(score[s][i]) * value[s][i] over the n_slots rows of n values that score and value
// point at. A score of -infinity weighs nothing; at least one per channel is finite.
void softmax_pool(const float* const* value, const float* const* score, std::size_t n_slots, std::size_t n,
                  float* out);

}  // namespace ds4::cpu
