#include <algorithm>

#include "backend/cpu/dot.h"
#include "backend/gpu/lower.h"
#include "ds4/error.h"

// Products and experts.
namespace ds4::gpu {
namespace {

constexpr std::int64_t kColumns = 8;  // of kernels/products.h
constexpr std::int64_t kBlockRows =
    512;  // of routed experts: bounds the scratch, about 100 MB for 6 of Flash size

struct ProductKernels {
    Kernel dense, expert;
};

ProductKernels kernels_for(quant::Type type) {
    switch (type) {
        case quant::Type::f32:
            return {Kernel::product_f32, Kernel::expert_product_f32};
        case quant::Type::f16:
            return {Kernel::product_f16, Kernel::expert_product_f16};
        case quant::Type::bf16:
            return {Kernel::product_bf16, Kernel::expert_product_bf16};
        case quant::Type::q8_0:
            return {Kernel::product_q8_0, Kernel::expert_product_q8_0};
        case quant::Type::q2_k:
            return {Kernel::product_q2_k, Kernel::expert_product_q2_k};
        case quant::Type::q4_k:
            return {Kernel::product_q4_k, Kernel::expert_product_q4_k};
        case quant::Type::iq2_xxs:
            return {Kernel::product_iq2_xxs, Kernel::expert_product_iq2_xxs};
        case quant::Type::mxfp4:
            return {Kernel::product_mxfp4, Kernel::expert_product_mxfp4};
        case quant::Type::i32:
            break;
    }
    throw Error("I32 tensors hold data, not weights to multiply with");
}

const std::uint8_t* bytes(const std::byte* p) {
    return reinterpret_cast<const std::uint8_t*>(p);
}

}  // namespace

Lowering::Activations Lowering::prepare(quant::Type weights, Rows x) {
    const cpu::ActivationFormat format = cpu::activation_format(weights);
    if (format == cpu::ActivationFormat::f32) {
        return {reinterpret_cast<const std::uint8_t*>(x.data), u32(x.width * 4)};
    }
    const std::uint32_t stride =
        static_cast<std::uint32_t>(cpu::activation_bytes(format, static_cast<std::size_t>(x.width)));
    auto* out = scratch_.take<std::uint8_t>(x.n * stride);
    const bool per_32 = format == cpu::ActivationFormat::q8_0;
    const std::int64_t n_blocks = x.width / (per_32 ? 32 : 256);
    launch(per_32 ? Kernel::prepare_q8_0 : Kernel::prepare_q8_k, {u32(x.n), parts(n_blocks, kSimds)},
           PrepareArgs{x.data, out, u32(x.width), stride});
    return {out, stride};
}

// A row of x is one activation row per group.
void Lowering::product(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) {
    const Activations acts = prepare(w.type, {x.data, x.n * n_groups, w.n_in});
    const ProductArgs args{bytes(w.data), acts.data,    y.data,   static_cast<std::int64_t>(w.row_bytes),
                           u32(w.n_in),   u32(w.n_out), u32(x.n), u32(n_groups),
                           acts.stride};
    launch(kernels_for(w.type).dense, {parts(w.n_out, kSimds), parts(x.n, kColumns)}, args);
}

void Lowering::expert_product(const Matrix& w, const Routing& routing, Activations x,
                              std::int64_t pairs_per_act, Rows y) {
    const ExpertProductArgs args{bytes(w.data),
                                 x.data,
                                 routing.expert,
                                 y.data,
                                 static_cast<std::int64_t>(w.row_bytes),
                                 u32(w.n_in),
                                 u32(w.n_out),
                                 x.stride,
                                 u32(pairs_per_act)};
    launch(kernels_for(w.type).expert, {parts(w.n_out, kSimds), u32(y.n)}, args);
}

void Lowering::lower(const ops::Matmul& op) {
    product(op.w, op.n_groups, op.x, op.y);
}

void Lowering::lower(const ops::Route& op) {
    const Router& r = op.router;
    const RouteArgs args{op.logits.data,
                         r.bias.data,
                         r.hash,
                         op.tokens,
                         op.out.expert,
                         op.out.weight,
                         u32(op.logits.width),
                         u32(op.out.n_used),
                         r.normalise ? 1U : 0U,
                         r.weight_scale};
    launch(Kernel::route, {u32(op.logits.n)}, args);
}

void Lowering::lower(const ops::RoutedExperts& op) {
    const std::int64_t n_used = op.routing.n_used;
    for (std::int64_t r = 0; r < op.x.n; r += kBlockRows) {
        scratch_.restart();
        const std::int64_t n = std::min(kBlockRows, op.x.n - r);
        const Routing routing{op.routing.expert + r * n_used, op.routing.weight + r * n_used, n_used};
        experts_of_some_rows(op.experts, routing, op.x.slice(r, n), op.y.slice(r, n));
    }
}

// (row, slot) pairs one by one; their sum is taken in slot order.
void Lowering::experts_of_some_rows(const Experts& experts, const Routing& routing, Rows x, Rows y) {
    const std::int64_t n_pairs = x.n * routing.n_used;
    const std::int64_t f = experts.gate.n_out;
    const Rows gate{scratch_.take<float>(n_pairs * f), n_pairs, f};
    const Rows up{scratch_.take<float>(n_pairs * f), n_pairs, f};
    const Rows down{scratch_.take<float>(n_pairs * y.width), n_pairs, y.width};

    const Activations gate_acts = prepare(experts.gate.type, x);
    const bool same = cpu::activation_format(experts.gate.type) == cpu::activation_format(experts.up.type);
    const Activations up_acts = same ? gate_acts : prepare(experts.up.type, x);
    expert_product(experts.gate, routing, gate_acts, routing.n_used, gate);
    expert_product(experts.up, routing, up_acts, routing.n_used, up);
    launch(Kernel::swiglu, {u32(n_pairs), parts(f, kThreads)},
           SwigluArgs{gate.data, up.data, routing.weight, u32(f), experts.clamp});
    expert_product(experts.down, routing, prepare(experts.down.type, gate), 1, down);
    launch(Kernel::sum_slots, {u32(x.n), parts(y.width, kThreads)},
           SumSlotsArgs{down.data, y.data, u32(routing.n_used), u32(y.width)});
}

void Lowering::lower(const ops::Swiglu& op) {
    launch(Kernel::swiglu, {u32(op.gate.n), parts(op.gate.width, kThreads)},
           SwigluArgs{op.gate.data, op.up.data, nullptr, u32(op.gate.width), op.clamp});
}

}  // namespace ds4::gpu
