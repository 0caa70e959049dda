#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/rope_tables.h"
#include "base/thread_pool.h"

// The operations that take each row, or each head of it, by itself.
namespace ds4::cpu {

// ---- one row

// 1 / sqrt(mean(x^2) + eps)
float inverse_rms(const float* x, std::int64_t n, float eps);

// Rotates the last rope.n_dims of each head of `head_dim` in a row of `width` by the table of its position.
void rope_row(const Rope& rope, const float* table, std::int64_t head_dim, bool inverse, float* x,
              std::int64_t width);

// ---- all rows, as in Backend

void embed(ThreadPool& pool, const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
           Rows streams);
void arg_max(ThreadPool& pool, Rows x, std::int32_t* best);
void rms_norm(ThreadPool& pool, Rows x, const Vector& w, std::int64_t width, float eps, Rows y);
void add(ThreadPool& pool, Rows x, Rows y);
void swiglu(ThreadPool& pool, Rows gate, Rows up, float clamp);
void rope(ThreadPool& pool, RopeTables& tables, const Rope& rope, std::span<const std::int32_t> positions,
          std::int64_t head_dim, bool inverse, Rows x);
void round_fp8(ThreadPool& pool, Rows x, std::int64_t n_tail, bool tail_to_f16);
void round_hadamard_fp4(ThreadPool& pool, Rows x, std::int64_t head_dim);

}  // namespace ds4::cpu
