#include "backend/cpu/matmul.h"

#include <algorithm>

#include "backend/cpu/dot.h"
#include "backend/cpu/grain.h"

namespace ds4::cpu {
namespace {

// A tile of weight rows stays in the second-level cache while the activation rows pass by in groups; a group
// stays in the first level while the tile passes by.
constexpr std::size_t kTileBytes = std::size_t{128} << 10;
constexpr std::int64_t kActGroup = 4;

std::int64_t tile_rows(const Matrix& w) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(kTileBytes / w.row_bytes), 1, 64);
}

}  // namespace

Activations prepare_rows(ThreadPool& pool, quant::Type type, Rows x, Scratch<std::byte>& memory) {
    const ActivationFormat format = activation_format(type);
    const auto width = static_cast<std::size_t>(x.width);
    if (format == ActivationFormat::f32) {
        return {reinterpret_cast<const std::byte*>(x.data), width * sizeof(float), x.n};
    }
    const std::size_t stride = activation_bytes(format, width);
    std::byte* out = memory.take(static_cast<std::size_t>(x.n) * stride);
    const auto prepare = [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; ++r) {
            prepare_activation(format, x.data + r * width, width, out + r * stride);
        }
    };
    pool.parallel_for(static_cast<std::size_t>(x.n), grain_for(x.width), prepare);
    return {out, stride, x.n};
}

void multiply(const Matrix& w, std::int64_t begin, std::int64_t end, const Activations& x, float* y,
              std::int64_t y_stride) {
    const auto n_in = static_cast<std::size_t>(w.n_in);
    const std::int64_t tile = tile_rows(w);
    for (std::int64_t first = begin; first < end; first += tile) {
        const std::int64_t last = std::min(first + tile, end);
        for (std::int64_t r = 0; r < x.n; r += kActGroup) {
            const Activations group = x.slice(r, std::min(kActGroup, x.n - r));
            for (std::int64_t o = first; o < last; ++o) {
                dot_row(w.type, w.row(o), n_in, group.data, group.stride, static_cast<std::size_t>(group.n),
                        y + r * y_stride + o - begin, static_cast<std::size_t>(y_stride));
            }
        }
    }
}

void Matmul::run(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) {
    if (x.n == 0) return;
    // A row of x is one activation row per group.
    const Activations acts = prepare_rows(pool_, w.type, {x.data, x.n * n_groups, w.n_in}, prepared_);
    const std::int64_t outs_per_group = w.n_out / n_groups;
    const auto n_out = static_cast<std::size_t>(w.n_out);
    pool_.parallel_for(
        n_out, grain_for(w.n_in * x.n / 4), [&](std::size_t piece_begin, std::size_t piece_end) {
            const auto end = static_cast<std::int64_t>(piece_end);
            for (auto begin = static_cast<std::int64_t>(piece_begin); begin < end;) {
                const std::int64_t group = begin / outs_per_group;
                const std::int64_t group_end = std::min(end, (group + 1) * outs_per_group);
                const Activations of_group{acts.data + static_cast<std::size_t>(group) * acts.stride,
                                           acts.stride * static_cast<std::size_t>(n_groups), x.n};
                multiply(w, begin, group_end, of_group, y.data + begin, y.width);
                begin = group_end;
            }
        });
}

}  // namespace ds4::cpu
