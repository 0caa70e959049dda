#include "backend/cpu/rows.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/grain.h"
#include "backend/cpu/vector.h"
#include "quant/kv_rows.h"
#include "quant/rounding.h"

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

// Turns pair i of every head by (cosine[i], sine[i]).
void rotate_pairs(const float* cosine, const float* sine, std::int64_t n_pairs, std::int64_t head_dim,
                  float* first, std::int64_t n_heads) {
    for (std::int64_t h = 0; h < n_heads; ++h) {
        float* x = first + h * head_dim;
        for (std::int64_t i = 0; i < n_pairs; ++i) {
            const float a = x[2 * i];
            const float b = x[2 * i + 1];
            x[2 * i] = a * cosine[i] - b * sine[i];
            x[2 * i + 1] = a * sine[i] + b * cosine[i];
        }
    }
}

}  // namespace

float inverse_rms(const float* x, std::int64_t n, float eps) {
    const float sum = sum_of_squares(x, static_cast<std::size_t>(n));
    const double mean = static_cast<double>(sum) / static_cast<double>(n);
    return static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
}

// The angle is formed in f32 as in the released code (model.md 5, D1); its sine and cosine are taken in
// double, which reduces large angles exactly, once for all heads.
void rope_row(const Rope& rope, std::int32_t position, std::int64_t head_dim, bool inverse, float* x,
              std::int64_t width) {
    constexpr std::int64_t kPairs = 64;
    float cosine[kPairs];
    float sine[kPairs];
    const std::int64_t n_pairs = rope.n_dims / 2;
    for (std::int64_t first = 0; first < n_pairs; first += kPairs) {
        const std::int64_t n = std::min(kPairs, n_pairs - first);
        for (std::int64_t i = 0; i < n; ++i) {
            const float theta = static_cast<float>(position) * rope.frequency[first + i];
            const double s = std::sin(static_cast<double>(theta));
            cosine[i] = static_cast<float>(std::cos(static_cast<double>(theta)));
            sine[i] = static_cast<float>(inverse ? -s : s);
        }
        rotate_pairs(cosine, sine, n, head_dim, x + head_dim - rope.n_dims + 2 * first, width / head_dim);
    }
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

void swiglu(ThreadPool& pool, Rows gate, Rows up, float clamp) {
    for_each(pool, gate.n, gate.width, [&](std::int64_t r) {
        swiglu(gate.row(r), up.row(r), clamp, 1.0F, static_cast<std::size_t>(gate.width), gate.row(r));
    });
}

void rope(ThreadPool& pool, const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim,
          bool inverse, Rows x) {
    constexpr std::int64_t kStepsPerSine = 32;
    const std::int64_t steps = rope.n_dims * (kStepsPerSine + x.width / head_dim);
    for_each(pool, x.n, steps, [&](std::int64_t r) {
        rope_row(rope, positions[static_cast<std::size_t>(r)], head_dim, inverse, x.row(r), x.width);
    });
}

void round_fp8(ThreadPool& pool, Rows x, std::int64_t n_tail, bool tail_to_f16) {
    const std::int64_t n = x.width - n_tail;
    for_each(pool, x.n, 4 * x.width, [&](std::int64_t r) {
        quant::round_fp8(x.row(r), static_cast<std::size_t>(n));
        if (tail_to_f16) quant::round_f16(x.row(r) + n, static_cast<std::size_t>(n_tail));
    });
}

void round_hadamard_fp4(ThreadPool& pool, Rows x, std::int64_t head_dim) {
    const auto n = static_cast<std::size_t>(head_dim);
    for_each(pool, x.n * x.width / head_dim, 16 * head_dim, [&](std::int64_t i) {
        float* head = x.data + i * head_dim;
        quant::hadamard(head, n);
        quant::round_fp4(head, n);
    });
}

}  // namespace ds4::cpu
