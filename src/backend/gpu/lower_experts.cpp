#include <algorithm>
#include <array>

#include "backend/cpu/dot.h"
#include "backend/gpu/lower.h"
#include "backend/gpu/tile_layout.h"
#include "ds4/error.h"
#include "quant/iq2_xxs.h"

// Routing and experts.
namespace ds4::gpu {
namespace {

Kernel expert_kernel_for(quant::Type type) {
    switch (type) {
        case quant::Type::f32:
            return Kernel::expert_product_f32;
        case quant::Type::f16:
            return Kernel::expert_product_f16;
        case quant::Type::bf16:
            return Kernel::expert_product_bf16;
        case quant::Type::q8_0:
            return Kernel::expert_product_q8_0;
        case quant::Type::q2_k:
            return Kernel::expert_product_q2_k;
        case quant::Type::q4_k:
            return Kernel::expert_product_q4_k;
        case quant::Type::iq2_xxs:
            return Kernel::expert_product_iq2_xxs;
        case quant::Type::mxfp4:
            return Kernel::expert_product_mxfp4;
        case quant::Type::i32:
            break;
    }
    throw Error("I32 tensors hold data, not weights to multiply with");
}

// Rows of a launch of gate_up and down: their (row, slot) sums must fit a thread group's memory. At most 0:
// too many slots even for one row.
std::int64_t generated_rows_for(std::int64_t n_used) {
    return n_used <= 6 ? 16 : std::min<std::int64_t>(8, 56 / (n_used + 1));
}

RouteArgs route_args(const ops::Route& op) {
    const Router& r = op.router;
    return {op.logits.data,
            r.bias.data,
            r.hash,
            op.tokens,
            op.out.expert,
            op.out.weight,
            u32(op.logits.width),
            u32(op.out.n_used),
            r.normalise ? 1U : 0U,
            r.weight_scale};
}

std::uint32_t layout_code(const Matrix& m) {
    return static_cast<std::uint32_t>(*tile_layout(m.type));
}
std::uint64_t member_bytes(const Matrix& m) {
    return m.tile_step * tile_bytes(*tile_layout(m.type), m.n_in, m.n_out);
}

}  // namespace

Lowering::ExpertRows Lowering::ExpertRows::slice(std::int64_t first, std::int64_t n) const {
    const std::int64_t pairs = first * routing.n_used;
    const auto part = [&](Rows r) { return r.data == nullptr ? r : r.slice(first, n); };
    ExpertRows some{{routing.expert + pairs, routing.weight + pairs, routing.n_used},
                    part(x),
                    part(act),
                    part(scratch),
                    part(y),
                    route};
    if (some.route) {
        some.route->logits = route->logits.slice(first, n);
        some.route->tokens = route->tokens + first;
        some.route->out = some.routing;
    }
    return some;
}

void Lowering::lower(const ops::Route& op) {
    launch(Kernel::route, {u32(op.logits.n)}, route_args(op));
}

void Lowering::lower(const ops::Swiglu& op) {
    launch(Kernel::swiglu, {u32(op.gate.n), parts(op.gate.width, kThreads)},
           SwigluArgs{op.gate.data, op.up.data, nullptr, u32(op.gate.width), op.clamp});
}

void Lowering::lower(const ops::RoutedExperts& op) {
    experts(op.experts, nullptr, {op.routing, op.x, {}, {}, op.y, std::nullopt});
}

// Generated rows have their experts chosen and listed in one launch.
void Lowering::lower(const ops::Mixture& op) {
    ExpertRows rows{op.routing, op.x, op.act, op.scratch, op.y, op.route};
    if (op.route && (op.routed.gate.tiles == nullptr || !all_generated(op.x.n))) {
        lower(*op.route);
        rows.route = std::nullopt;
    }
    experts(op.routed, &op.shared, rows);
}

void Lowering::experts(const Experts& routed, const Experts* shared, const ExpertRows& all) {
    const bool in_tiles = routed.gate.tiles != nullptr;
    // The kernels for experts in tiles take the shared expert along.
    const bool together = in_tiles && shared != nullptr && shared->down.tiles != nullptr &&
                          shared->down.n_in == routed.down.n_in && shared->down.n_out == routed.down.n_out;
    const Experts* along = together ? shared : nullptr;
    for_runs(all.x.n, [&](std::int64_t first, std::int64_t n, bool is_prompt) {
        const std::int64_t most = !in_tiles   ? kFileOrderRows
                                  : is_prompt ? kPromptRows
                                              : generated_rows_for(all.routing.n_used);
        if (most < 1) throw DeviceError("the GPU kernels have no room for that many experts a token");
        for (std::int64_t r = 0; r < n; r += most) {
            scratch_.restart();
            const ExpertRows rows = all.slice(first + r, std::min(most, n - r));
            if (!in_tiles) {
                experts_in_file_order(routed, rows);
            } else if (is_prompt) {
                prompt_experts(routed, along, rows);
            } else {
                generated_experts(routed, along, rows);
            }
        }
        if (shared == nullptr || together) return;
        // In the pieces in which multiply_pending() left the activations.
        for (std::int64_t r = 0; r < n; r += kPromptRows) {
            scratch_.restart();
            add_shared(*shared, all.slice(first + r, std::min(kPromptRows, n - r)), is_prompt);
        }
    });
}

// ---- weights in tiles

void Lowering::generated_experts(const Experts& routed, const Experts* shared, const ExpertRows& rows) {
    const std::int64_t n = rows.x.n, n_used = rows.routing.n_used, n_pairs = n * n_used;
    const std::int64_t n_in = routed.gate.n_in, n_ff = routed.gate.n_out;
    auto* x = scratch_.take<ActBlock>(n * n_in / kActInputs);
    auto* x_sums = scratch_.take<float>(n * n_in / kSumInputs);
    auto* list = reinterpret_cast<ExpertList*>(scratch_.take<std::byte>(static_cast<std::int64_t>(
        sizeof(ExpertList) + sizeof(ExpertEntry) * static_cast<std::size_t>(n_pairs))));
    RouteArgs route{};
    if (rows.route) route = route_args(*rows.route);
    route.expert = rows.routing.expert;
    constexpr std::int64_t kPrepareSimds = 16;  // of a group
    launch(Kernel::prepare_experts, {1 + parts(n * n_in / kActInputs, kPrepareSimds)},
           PrepareExpertsArgs{route, rows.x.data, x, x_sums, list, u32(n), u32(n_in), u32(n_pairs)});
    GateUpArgs up{};
    up.tiles = bytes_at(routed.gate.tiles);
    up.expert_bytes = member_bytes(routed.gate);
    up.list = list;
    up.x = x;
    up.x_sums = x_sums;
    up.weight = rows.routing.weight;
    up.grid = codebook();
    up.act = scratch_.take<ActBlock>(n_pairs * n_ff / kActInputs);
    up.act_sums = scratch_.take<float>(n_pairs * n_ff / kSumInputs);
    up.n = u32(n);
    up.n_in = u32(n_in);
    up.n_ff = u32(n_ff);
    up.n_used = u32(n_used);
    up.clamp = routed.clamp;
    up.layout = layout_code(routed.gate);
    DownArgs down{};
    if (shared != nullptr) {
        up.shared_f32 = rows.act.data;
        up.shared_act = scratch_.take<ActBlock>(n * n_ff / kActInputs);
        down.shared_tiles = bytes_at(shared->down.tiles);
        down.shared_act = up.shared_act;
    }
    down.tiles = bytes_at(routed.down.tiles);
    down.expert_bytes = member_bytes(routed.down);
    down.list = list;
    down.act = up.act;
    down.act_sums = up.act_sums;
    down.y = rows.y.data;
    down.n = u32(n);
    down.n_ff = u32(n_ff);
    down.n_out = u32(routed.down.n_out);
    down.n_used = u32(n_used);
    down.layout = layout_code(routed.down);
    launch(Kernel::gate_up, {u32(n_pairs), parts(n_ff, 32)}, up);
    launch(Kernel::down, {u32(n), parts(routed.down.n_out, 32)}, down);
}

void Lowering::prompt_experts(const Experts& routed, const Experts* shared, const ExpertRows& rows) {
    const std::int64_t n = rows.x.n, n_used = rows.routing.n_used, n_pairs = n * n_used;
    const std::int64_t n_in = routed.gate.n_in, n_ff = routed.gate.n_out, n_out = routed.down.n_out;
    const std::uint32_t n_experts = u32(routed.gate.stack);
    if (shared != nullptr) multiply_shared(shared->down, rows);
    auto* x = scratch_.take<std::uint16_t>(n * n_in);
    launch(Kernel::halves, {u32(n)}, HalvesArgs{rows.x.data, x, nullptr, u32(n), u32(n_in)});
    auto* first = scratch_.take<std::int32_t>(n_experts + 1);
    auto* pair = scratch_.take<std::int32_t>(n_pairs);
    launch(Kernel::sort, {1}, SortArgs{rows.routing.expert, first, pair, u32(n_pairs), n_experts});
    auto* act = scratch_.take<std::uint16_t>(n_pairs * n_ff);
    launch(Kernel::grouped_gate_up, {u32(n_pairs), parts(n_ff, 32)},
           GroupedGateUpArgs{bytes_at(routed.gate.tiles), member_bytes(routed.gate), first, pair, x,
                             rows.routing.weight, codebook(), act, n_experts, u32(n_in), u32(n_ff),
                             u32(n_used), routed.clamp, layout_code(routed.gate)});
    auto* slots = scratch_.take<float>(n_pairs * n_out);
    launch(Kernel::grouped_down, {u32(n_pairs), parts(n_out, 32)},
           GroupedDownArgs{bytes_at(routed.down.tiles), member_bytes(routed.down), first, pair, act, slots,
                           n_experts, u32(n_ff), u32(n_out), layout_code(routed.down)});
    launch(Kernel::combine, {u32(n)},
           CombineArgs{slots, shared != nullptr ? rows.scratch.data : nullptr, rows.y.data, u32(n),
                       u32(n_used), u32(n_out)});
}

// scratch = down act of prompt rows, whose activations are halves.
void Lowering::multiply_shared(const Matrix& down, const ExpertRows& rows) {
    ProductArgs a{};
    a.x = halves_at(rows.act, 0);
    a.n = u32(rows.x.n);
    a.n_in = u32(down.n_in);
    a.n_groups = 1;
    a.n_matrices = 1;
    ProductMatrix& m = a.matrix[0];
    m.tiles = bytes_at(down.tiles);
    m.y = rows.scratch.data;
    m.y_width = m.n_out = u32(down.n_out);
    m.layout = static_cast<std::uint8_t>(layout_code(down));
    m.output = static_cast<std::uint8_t>(ProductOutput::f32);
    launch(Kernel::product, {parts(down.n_out, 32), a.n}, a);
}

// y += down act, on its own.
void Lowering::add_shared(const Experts& shared, const ExpertRows& rows, bool is_prompt) {
    if (shared.down.tiles == nullptr) {
        product(shared.down, 1, rows.act, rows.scratch);
    } else if (is_prompt) {
        multiply_shared(shared.down, rows);
    } else {
        PendingProducts p;
        p.x = rows.act;
        p.products.push_back({shared.down, {}, rows.scratch});
        for (std::int64_t r = 0; r < rows.act.n; r += kGeneratedRows) {
            multiply_generated(p, r, std::min(kGeneratedRows, rows.act.n - r));
        }
    }
    lower(ops::Add{rows.scratch, rows.y});
}

const std::uint32_t* Lowering::codebook() {
    if (codebook_.bytes() == 0) {
        std::array<std::uint32_t, 256> selectors{};
        for (std::size_t i = 0; i < selectors.size(); ++i)
            selectors[i] = tiles::iq2_selectors(quant::kIq2xxsGrid[i]);
        codebook_ = Buffer(device_, sizeof(selectors));
        device_.upload(codebook_.get(), selectors.data(), sizeof(selectors));
    }
    return reinterpret_cast<const std::uint32_t*>(codebook_.get());
}

// ---- weights in the order of the file

void Lowering::expert_product(const Matrix& w, const Routing& routing, Activations x,
                              std::int64_t pairs_per_act, Rows y) {
    const ExpertProductArgs args{bytes_at(w.data),
                                 x.data,
                                 routing.expert,
                                 y.data,
                                 static_cast<std::int64_t>(w.row_bytes),
                                 u32(w.n_in),
                                 u32(w.n_out),
                                 x.stride,
                                 u32(pairs_per_act)};
    launch(expert_kernel_for(w.type), {parts(w.n_out, kSimds), u32(y.n)}, args);
}

// (row, slot) pairs one by one; their sum is taken in slot order.
void Lowering::experts_in_file_order(const Experts& routed, const ExpertRows& rows) {
    const Routing& routing = rows.routing;
    const std::int64_t n_pairs = rows.x.n * routing.n_used;
    const std::int64_t f = routed.gate.n_out;
    const Rows gate{scratch_.take<float>(n_pairs * f), n_pairs, f};
    const Rows up{scratch_.take<float>(n_pairs * f), n_pairs, f};
    const Rows down{scratch_.take<float>(n_pairs * rows.y.width), n_pairs, rows.y.width};

    const Activations gate_acts = prepare(routed.gate.type, rows.x);
    const bool same = cpu::activation_format(routed.gate.type) == cpu::activation_format(routed.up.type);
    const Activations up_acts = same ? gate_acts : prepare(routed.up.type, rows.x);
    expert_product(routed.gate, routing, gate_acts, routing.n_used, gate);
    expert_product(routed.up, routing, up_acts, routing.n_used, up);
    launch(Kernel::swiglu, {u32(n_pairs), parts(f, kThreads)},
           SwigluArgs{gate.data, up.data, routing.weight, u32(f), routed.clamp});
    expert_product(routed.down, routing, prepare(routed.down.type, gate), 1, down);
    launch(Kernel::sum_slots, {u32(rows.x.n), parts(rows.y.width, kThreads)},
           SumSlotsArgs{down.data, rows.y.data, u32(routing.n_used), u32(rows.y.width)});
}

}  // namespace ds4::gpu
