#include "backend/cpu/rows.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/grain.h"
#include "backend/cpu/rounding_kernel.h"
#include "backend/cpu/vector.h"
#include "base/first_of_largest.h"
#include "quant/kv_rows.h"

namespace ds4::cpu {
namespace {

// Calls fn(i) for i in [0, n), in parallel where an item's steps make it worth while.
template <class F>
void for_each(ThreadPool& pool, std::int64_t n, std::int64_t steps_per_item, F&& fn) {
    pool.parallel_for(static_cast<std::size_t>(n), grain_for(steps_per_item),
                      [&](std::size_t begin, std::size_t end) {
                          for (std::size_t i = begin; i < end; ++i) fn(static_cast<std::int64_t>(i));
                      });
}

}  // namespace

float inverse_rms(const float* x, std::int64_t n, float eps) {
    const float sum = sum_of_squares(x, static_cast<std::size_t>(n));
    const double mean = static_cast<double>(sum) / static_cast<double>(n);
    return static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
}

void rope_row(const Rope& rope, const float* table, std::int64_t head_dim, bool inverse, float* x,
              std::int64_t width) {
    rotate_pairs(table, inverse, static_cast<std::size_t>(rope.n_dims), x + head_dim - rope.n_dims,
                 static_cast<std::size_t>(width / head_dim), static_cast<std::size_t>(head_dim));
}

void embed(ThreadPool& pool, const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
           Rows streams) {
    const auto width = static_cast<std::size_t>(table.n_in);
    for_each(pool, streams.n, streams.width, [&](std::int64_t r) {
        float* row = streams.row(r);
        quant::format(table.type).decode(table.row(tokens[static_cast<std::size_t>(r)]), row, width);
        for (std::int64_t m = 1; m < n_streams; ++m) std::copy_n(row, width, row + m * table.n_in);
    });
}

void rms_norm(ThreadPool& pool, Rows x, const Vector& w, std::int64_t width, float eps, Rows y) {
    for_each(pool, x.n * x.width / width, width, [&](std::int64_t i) {
        const float* row = x.data + i * width;
        scale(row, inverse_rms(row, width, eps), w.data, static_cast<std::size_t>(width), y.data + i * width);
    });
}

void add(ThreadPool& pool, Rows x, Rows y) {
    for_each(pool, y.n, y.width, [&](std::int64_t r) {
        for (std::int64_t at = 0; at < y.width; at += x.width) {
            add(x.row(r), static_cast<std::size_t>(x.width), y.row(r) + at);
        }
    });
}

void arg_max(ThreadPool& pool, Rows x, std::int32_t* best) {
    for_each(pool, x.n, x.width, [&](std::int64_t r) {
        best[r] = static_cast<std::int32_t>(first_of_largest({x.row(r), static_cast<std::size_t>(x.width)}));
    });
}

void swiglu(ThreadPool& pool, Rows gate, Rows up, float clamp) {
    for_each(pool, gate.n, gate.width, [&](std::int64_t r) {
        swiglu(gate.row(r), up.row(r), clamp, 1.0F, static_cast<std::size_t>(gate.width), gate.row(r));
    });
}

void rope(ThreadPool& pool, RopeTables& tables, const Rope& rope, std::span<const std::int32_t> positions,
          std::int64_t head_dim, bool inverse, Rows x) {
    const float* table = tables.get(rope, positions);
    for_each(pool, x.n, rope.n_dims * (x.width / head_dim), [&](std::int64_t r) {
        rope_row(rope, table + 2 * r * rope.n_dims, head_dim, inverse, x.row(r), x.width);
    });
}

void round_fp8(ThreadPool& pool, Rows x, std::int64_t n_tail, bool tail_to_f16) {
    const std::int64_t n = x.width - n_tail;
    for_each(pool, x.n, x.width, [&](std::int64_t r) {
        round_fp8(x.row(r), static_cast<std::size_t>(n));
        if (tail_to_f16) quant::round_f16(x.row(r) + n, static_cast<std::size_t>(n_tail));
    });
}

void round_hadamard_fp4(ThreadPool& pool, Rows x, std::int64_t head_dim) {
    const auto n = static_cast<std::size_t>(head_dim);
    for_each(pool, x.n * x.width / head_dim, 2 * head_dim,
             [&](std::int64_t i) { round_hadamard_fp4(x.data + i * head_dim, n); });
}

}  // namespace ds4::cpu
