#include "backend/cpu/matmul.h"

#include <algorithm>

#include "backend/cpu/dot.h"
#include "backend/cpu/grain.h"

namespace ds4::cpu {

Activations prepare_rows(ThreadPool& pool, quant::Type type, Rows x, Scratch<std::byte>& memory) {
    const ActivationFormat format = activation_format(type);
    const auto width = static_cast<std::size_t>(x.width);
    if (format == ActivationFormat::f32) {
        return {reinterpret_cast<const std::byte*>(x.data), width * sizeof(float),
                static_cast<std::size_t>(x.n)};
    }
    const std::size_t stride = activation_bytes(format, width);
    std::byte* out = memory.take(static_cast<std::size_t>(x.n) * stride);
    const auto prepare = [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; ++r) {
            prepare_activation(format, x.data + r * width, width, out + r * stride);
        }
    };
    pool.parallel_for(static_cast<std::size_t>(x.n), grain_for(x.width), prepare);
    return {out, stride, static_cast<std::size_t>(x.n)};
}

void multiply(const Matrix& w, std::int64_t begin, std::int64_t end, const Activations& x, float* y,
              std::int64_t y_stride) {
    const WeightRows rows{w.type, w.row(begin), w.row_bytes, static_cast<std::size_t>(end - begin),
                          static_cast<std::size_t>(w.n_in)};
    multiply_rows(rows, x, y, static_cast<std::size_t>(y_stride));
}

void Matmul::run(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) {
    if (x.n == 0) return;
    // A row of x is one activation row per group.
    const Activations acts = prepare_rows(pool_, w.type, {x.data, x.n * n_groups, w.n_in}, prepared_);
    const std::int64_t outs_per_group = w.n_out / n_groups;
    const auto n_out = static_cast<std::size_t>(w.n_out);
    constexpr std::size_t kBlock = 4;  // multiply_rows is fastest with multiples of it
    const std::size_t grain = (grain_for(w.n_in * x.n / 4) + kBlock - 1) / kBlock * kBlock;
    pool_.parallel_for(n_out, grain, [&](std::size_t piece_begin, std::size_t piece_end) {
        const auto end = static_cast<std::int64_t>(piece_end);
        for (auto begin = static_cast<std::int64_t>(piece_begin); begin < end;) {
            const std::int64_t group = begin / outs_per_group;
            const std::int64_t group_end = std::min(end, (group + 1) * outs_per_group);
            const Activations of_group{acts.data + static_cast<std::size_t>(group) * acts.stride,
                                       acts.stride * static_cast<std::size_t>(n_groups),
                                       static_cast<std::size_t>(x.n)};
            multiply(w, begin, group_end, of_group, y.data + begin, y.width);
            begin = group_end;
        }
    });
}

}  // namespace ds4::cpu
