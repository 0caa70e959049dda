#include "backend/cpu/experts.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/dot.h"
#include "backend/cpu/grain.h"
#include "backend/cpu/vector.h"

namespace ds4::cpu {
namespace {

constexpr std::int64_t kBlockRows = 512;  // bounds the scratch: about 100 MB for 6 experts of Flash size
constexpr std::int64_t kTile = 64;        // outputs per task: one row's 6 experts still make 192 tasks
constexpr std::int64_t kPairGroup = 128;  // pairs whose up products wait on the stack: 32 KiB

Activations slice(const Activations& x, std::int64_t first, std::int64_t count) {
    return x.slice(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

}  // namespace

void RoutedExperts::run(const Experts& experts, const Routing& routing, Rows x, Rows y) {
    const std::int64_t n_used = routing.n_used;
    for (std::int64_t r = 0; r < x.n; r += kBlockRows) {
        const std::int64_t n = std::min(kBlockRows, x.n - r);
        Block block{experts,
                    {routing.expert + r * n_used, routing.weight + r * n_used, n_used},
                    x.slice(r, n),
                    y.slice(r, n)};
        block.n_pairs = n * n_used;
        const std::int64_t f = experts.gate.n_out;
        block.hidden = {hidden_.take(static_cast<std::size_t>(block.n_pairs * f)), block.n_pairs, f};
        block.down = {down_.take(static_cast<std::size_t>(block.n_pairs * y.width)), block.n_pairs, y.width};
        sort_by_expert(block);
        gate_up(block);
        down(block);
        sum_slots(block);
    }
}

// A counting sort; pairs of one expert stay in row order.
void RoutedExperts::sort_by_expert(Block& block) {
    const auto n_experts = static_cast<std::size_t>(block.experts.gate.stack);
    const auto n_pairs = static_cast<std::size_t>(block.n_pairs);
    std::int32_t* first = first_.take(n_experts + 1);
    std::int32_t* next = next_.take(n_experts);
    std::int32_t* active = active_.take(n_experts);
    std::int32_t* place = place_.take(n_pairs);
    float* weight = weight_.take(n_pairs);

    std::fill_n(first, n_experts + 1, 0);
    for (std::size_t i = 0; i < n_pairs; ++i) ++first[block.routing.expert[i] + 1];
    for (std::size_t e = 0; e < n_experts; ++e) {
        if (first[e + 1] != 0) active[block.n_active++] = static_cast<std::int32_t>(e);
        first[e + 1] += first[e];
        next[e] = first[e];
    }
    for (std::size_t i = 0; i < n_pairs; ++i) {
        place[i] = next[block.routing.expert[i]]++;
        weight[place[i]] = block.routing.weight[i];
    }
    block.first = first;
    block.active = active;
    block.place = place;
    block.weight = weight;
}

template <class F>
void RoutedExperts::for_each_tile(const Block& block, std::int64_t n_out, F&& fn) {
    const std::int64_t tiles = (n_out + kTile - 1) / kTile;
    const auto n_tasks = static_cast<std::size_t>(block.n_active * tiles);
    pool_.parallel_for(n_tasks, [&](std::size_t begin, std::size_t end) {
        for (std::size_t task = begin; task < end; ++task) {
            const std::int32_t e = block.active[static_cast<std::int64_t>(task) / tiles];
            const std::int64_t o = static_cast<std::int64_t>(task) % tiles * kTile;
            const std::int32_t first = block.first[e];
            fn(Tile{e, first, block.first[e + 1] - first, o, std::min(o + kTile, n_out)});
        }
    });
}

// Prepares each row of x once and puts a copy at the place of each of its pairs.
Activations RoutedExperts::gather_inputs(const Block& block, quant::Type type, Scratch<std::byte>& out) {
    const ActivationFormat format = activation_format(type);
    const auto width = static_cast<std::size_t>(block.x.width);
    const std::size_t stride = activation_bytes(format, width);
    std::byte* acts = out.take(static_cast<std::size_t>(block.n_pairs) * stride);
    const std::int64_t n_used = block.routing.n_used;
    const auto n_rows = static_cast<std::size_t>(block.x.n);
    pool_.parallel_for(n_rows, grain_for(block.x.width), [&](std::size_t begin, std::size_t end) {
        for (auto r = static_cast<std::int64_t>(begin); r < static_cast<std::int64_t>(end); ++r) {
            const std::int32_t* places = block.place + r * n_used;
            std::byte* prepared = acts + static_cast<std::size_t>(places[0]) * stride;
            prepare_activation(format, block.x.row(r), width, prepared);
            for (std::int64_t k = 1; k < n_used; ++k) {
                std::memcpy(acts + static_cast<std::size_t>(places[k]) * stride, prepared, stride);
            }
        }
    });
    return {acts, stride, static_cast<std::size_t>(block.n_pairs)};
}

// hidden = swiglu(gate x, up x) * weight
void RoutedExperts::gate_up(const Block& block) {
    const Experts& experts = block.experts;
    const Activations gate_acts = gather_inputs(block, experts.gate.type, gate_inputs_);
    const bool same = activation_format(experts.gate.type) == activation_format(experts.up.type);
    const Activations up_acts = same ? gate_acts : gather_inputs(block, experts.up.type, up_inputs_);

    for_each_tile(block, experts.gate.n_out, [&](const Tile& tile) {
        const Matrix gate_w = experts.gate.member(tile.expert);
        const Matrix up_w = experts.up.member(tile.expert);
        const std::int64_t last_place = tile.first_place + tile.n_pairs;
        for (std::int64_t p = tile.first_place; p < last_place; p += kPairGroup) {
            const std::int64_t n = std::min(kPairGroup, last_place - p);
            float* gate = block.hidden.row(p) + tile.begin;
            float up[kPairGroup * kTile];
            multiply(gate_w, tile.begin, tile.end, slice(gate_acts, p, n), gate, block.hidden.width);
            multiply(up_w, tile.begin, tile.end, slice(up_acts, p, n), up, kTile);
            for (std::int64_t i = 0; i < n; ++i) {
                float* hidden = gate + i * block.hidden.width;
                swiglu(hidden, up + i * kTile, experts.clamp, block.weight[p + i],
                       static_cast<std::size_t>(tile.end - tile.begin), hidden);
            }
        }
    });
}

void RoutedExperts::down(const Block& block) {
    const Activations acts = prepare_rows(pool_, block.experts.down.type, block.hidden, hidden_inputs_);
    for_each_tile(block, block.down.width, [&](const Tile& tile) {
        multiply(block.experts.down.member(tile.expert), tile.begin, tile.end,
                 slice(acts, tile.first_place, tile.n_pairs), block.down.row(tile.first_place) + tile.begin,
                 block.down.width);
    });
}

// In slot order, whatever the order of the experts was.
void RoutedExperts::sum_slots(const Block& block) {
    const std::int64_t n_used = block.routing.n_used;
    const auto width = static_cast<std::size_t>(block.y.width);
    const auto n_rows = static_cast<std::size_t>(block.y.n);
    pool_.parallel_for(
        n_rows, grain_for(block.y.width * n_used / 4), [&](std::size_t begin, std::size_t end) {
            for (auto r = static_cast<std::int64_t>(begin); r < static_cast<std::int64_t>(end); ++r) {
                const std::int32_t* places = block.place + r * n_used;
                std::memcpy(block.y.row(r), block.down.row(places[0]), width * sizeof(float));
                for (std::int64_t k = 1; k < n_used; ++k) {
                    add(block.down.row(places[k]), width, block.y.row(r));
                }
            }
        });
}

}  // namespace ds4::cpu
