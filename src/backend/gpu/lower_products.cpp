#include <algorithm>
#include <utility>

#include "backend/cpu/dot.h"
#include "backend/gpu/lower.h"
#include "backend/gpu/matrix_plan.h"
#include "backend/gpu/tile_layout.h"
#include "ds4/error.h"

// Products of rows. Weights in tiles have kernels for rows of prompts and others for generated rows;
// weights as they lie in the file have one for all.
namespace ds4::gpu {
namespace {

constexpr std::int64_t kColumns = 8;  // of kernels/products.h

Kernel kernel_for(quant::Type type) {
    switch (type) {
        case quant::Type::f32:
            return Kernel::product_f32;
        case quant::Type::f16:
            return Kernel::product_f16;
        case quant::Type::bf16:
            return Kernel::product_bf16;
        case quant::Type::q8_0:
            return Kernel::product_q8_0;
        case quant::Type::q2_k:
            return Kernel::product_q2_k;
        case quant::Type::q4_k:
            return Kernel::product_q4_k;
        case quant::Type::iq2_xxs:
            return Kernel::product_iq2_xxs;
        case quant::Type::mxfp4:
            return Kernel::product_mxfp4;
        case quant::Type::i32:
            break;
    }
    throw Error("I32 tensors hold data, not weights to multiply with");
}

bool is_gated(const PendingProducts::Product& p) {
    return p.up.tiles != nullptr;
}

std::uint32_t tiles_a_group(const Matrix& w, std::int64_t n_groups) {
    return n_groups == 1 ? 0 : u32(w.n_out / n_groups) / tiles::kRows;
}

// One of the matrices of `rows`, but for where its results go.
RowsMatrix rows_matrix(const Matrix& w, std::int64_t n_groups, RowsOutput output) {
    RowsMatrix m{};
    m.tiles = bytes_at(w.tiles);
    m.n_out = u32(w.n_out);
    m.layout = static_cast<std::uint8_t>(*tile_layout(w.type));
    m.output = static_cast<std::uint8_t>(output);
    m.tiles_a_group = tiles_a_group(w, n_groups);
    // Warps that share a row tile; a pass of the kernel's grid must not reach into the next group.
    m.k_split = rows_k_split(m.n_out * (output == RowsOutput::swiglu ? 2 : 1), u32(w.n_in), output);
    while (m.tiles_a_group * m.k_split % 16 != 0) m.k_split *= 2;
    return m;
}

// Of `product`, likewise.
ProductMatrix product_matrix(const Matrix& w, std::int64_t n_groups, ProductOutput output) {
    ProductMatrix m{};
    m.tiles = bytes_at(w.tiles);
    m.n_out = u32(w.n_out);
    m.tiles_a_group = tiles_a_group(w, n_groups);
    m.layout = static_cast<std::uint8_t>(*tile_layout(w.type));
    m.output = static_cast<std::uint8_t>(output);
    return m;
}

// Parts of 32 results, of all matrices.
std::uint32_t result_parts(const PendingProducts& p) {
    std::uint32_t n = 0;
    for (const PendingProducts::Product& one : p.products) n += parts(one.w.n_out, 32);
    return n;
}

}  // namespace

void Lowering::lower(const ops::RowRun& op) {
    if (op.first == 0) runs_.clear();
    if (op.n_rows > 0) runs_.push_back(op);
}

void Lowering::lower(const ops::Matmul& op) {
    if (op.w.tiles != nullptr) {
        join({op.w, {}, op.y}, {op.x, op.norm, op.norm_eps, op.n_groups, 0, {}});
    } else {
        multiply_pending();
        product(op.w, op.n_groups, op.norm ? normed(op.x, op.norm, op.norm_eps) : op.x, op.y);
    }
}

void Lowering::lower(const ops::GatedMatmul& op) {
    const Experts& e = op.shared;
    if (e.gate.tiles != nullptr) return join({e.gate, e.up, op.act}, {op.x, {}, 0, 1, e.clamp, {}});
    multiply_pending();
    product(e.gate, 1, op.x, op.act);
    product(e.up, 1, op.x, op.scratch);
    lower(ops::Swiglu{op.act, op.scratch, e.clamp});
}

void Lowering::lower(const ops::LowRankMatmul& op) {
    const auto is_q8_0 = [](const Matrix& w) { return w.tiles != nullptr && w.type == quant::Type::q8_0; };
    const bool fits = is_q8_0(op.w_a) && is_q8_0(op.w_b) && op.w_a.n_out % kActInputs == 0;
    if (!fits) {
        lower(ops::Matmul{op.w_a, op.n_groups, op.x, op.between});
        lower(ops::Matmul{op.w_b, 1, op.between, op.y});
        return multiply_pending();
    }
    for_runs(op.x.n, [&](std::int64_t first, std::int64_t n, bool is_prompt) {
        const std::int64_t most = is_prompt ? kPromptRows : kGeneratedRows;
        for (std::int64_t r = 0; r < n; r += most) {
            scratch_.restart();
            const std::int64_t some = std::min(most, n - r);
            is_prompt ? low_rank_prompt(op, first + r, some) : low_rank_generated(op, first + r, some);
        }
    });
}

// ---- weights in the order of the file

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

// Normed rows in scratch memory.
Rows Lowering::normed(Rows x, const Vector& norm, float eps) {
    const Rows y{scratch_.take<float>(x.n * x.width), x.n, x.width};
    lower(ops::RmsNorm{x, norm, x.width, eps, y});
    return y;
}

// A row of x is one activation row per group.
void Lowering::product(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) {
    if (w.data == nullptr) throw Error("a matrix in tiles is multiplied as if it lay as in the file");
    const Activations acts = prepare(w.type, {x.data, x.n * n_groups, w.n_in});
    const MatmulArgs args{bytes_at(w.data), acts.data,    y.data,   static_cast<std::int64_t>(w.row_bytes),
                          u32(w.n_in),      u32(w.n_out), u32(x.n), u32(n_groups),
                          acts.stride};
    launch(kernel_for(w.type), {parts(w.n_out, kSimds), parts(x.n, kColumns)}, args);
}

// ---- weights in tiles

void Lowering::join(const PendingProducts::Product& product, const PendingProducts& with) {
    PendingProducts& p = products_;
    const bool same_x = p.x.data == with.x.data && p.x.n == with.x.n && p.x.width == with.x.width &&
                        p.norm.data == with.norm.data && p.norm_eps == with.norm_eps;
    const bool fits = same_x && p.n_groups == 1 && with.n_groups == 1 &&
                      p.products.size() < kMaxRowsMatrices && p.clamp == 0;
    if (!fits) multiply_pending();
    std::vector<PendingProducts::Product> products = std::move(p.products);
    p = with;
    p.products = std::move(products);
    p.products.push_back(product);
}

void Lowering::multiply_pending() {
    PendingProducts& p = products_;
    if (p.products.empty()) return;
    // What takes longest goes first.
    std::stable_sort(p.products.begin(), p.products.end(), [](const auto& a, const auto& b) {
        const auto cost = [](const auto& one) {
            return one.w.row_bytes * static_cast<std::size_t>(one.w.n_out) * (is_gated(one) ? 2 : 1);
        };
        return cost(a) > cost(b);
    });
    for_runs(p.x.n, [&](std::int64_t first, std::int64_t n, bool is_prompt) {
        const std::int64_t most = is_prompt ? kPromptRows : kGeneratedRows;
        for (std::int64_t r = 0; r < n; r += most) {
            scratch_.restart();
            const std::int64_t some = std::min(most, n - r);
            is_prompt ? multiply_prompt(p, first + r, some) : multiply_generated(p, first + r, some);
        }
    });
    p = {};
}

void Lowering::multiply_generated(const PendingProducts& p, std::int64_t first, std::int64_t n) {
    RowsArgs a{};
    a.x_f32 = p.x.row(first);
    a.n = u32(n);
    a.n_in = u32(p.products[0].w.n_in);
    a.n_groups = u32(p.n_groups);
    a.input = static_cast<std::uint32_t>(p.norm ? RowsInput::norm : RowsInput::f32);
    a.norm = p.norm.data;
    a.eps = p.norm_eps;
    a.clamp = p.clamp;
    for (const PendingProducts::Product& one : p.products) {
        RowsMatrix& m = a.matrix[a.n_matrices++];
        m = rows_matrix(one.w, p.n_groups, is_gated(one) ? RowsOutput::swiglu : RowsOutput::f32);
        m.y = one.y.row(first);
        m.y_width = u32(one.y.width);
    }
    set_passes(a);
    launch(Kernel::rows, {result_parts(p), u32(n)}, a);
}

// Halves lose 2^-12 of x, in half of the cases less. That is enough beside weights of 8 bits; F16 weights
// keep 22 bits of x: routers choose by small differences, compressors' rows are read a million tokens later.
void Lowering::multiply_prompt(const PendingProducts& p, std::int64_t first, std::int64_t n) {
    const auto whole_x = [](const auto& one) { return one.w.type == quant::Type::f16; };
    Rows x = p.x.slice(first, n);
    if (p.norm) x = normed(x, p.norm, p.norm_eps);
    auto* high = scratch_.take<std::uint16_t>(n * x.width);
    std::uint16_t* low = std::any_of(p.products.begin(), p.products.end(), whole_x)
                             ? scratch_.take<std::uint16_t>(n * x.width)
                             : nullptr;
    launch(Kernel::halves, {u32(n)}, HalvesArgs{x.data, high, low, u32(n), u32(x.width)});
    ProductArgs a{};
    a.x = high;
    a.x_low = low;
    a.n = u32(n);
    a.n_in = u32(p.products[0].w.n_in);
    a.n_groups = u32(p.n_groups);
    a.clamp = p.clamp;
    for (const PendingProducts::Product& one : p.products) {
        ProductMatrix& m = a.matrix[a.n_matrices++];
        m = product_matrix(one.w, p.n_groups,
                           is_gated(one) ? ProductOutput::swiglu_halves : ProductOutput::f32);
        m.y = one.y.row(first);
        if (is_gated(one)) m.y_halves = halves_at(one.y, first);
        m.y_width = u32(one.y.width);
        m.whole_x = whole_x(one) ? 1 : 0;
    }
    launch(Kernel::product, {result_parts(p), u32(n)}, a);
}

// What is between leaves the first product in the form in which the second one reads it.
void Lowering::low_rank_generated(const ops::LowRankMatmul& op, std::int64_t first, std::int64_t n) {
    const std::int64_t width = op.w_a.n_out;
    auto* between = scratch_.take<ActBlock>(n * width / kActInputs);
    RowsArgs a{};
    a.x_f32 = op.x.row(first);
    a.n = u32(n);
    a.n_in = u32(op.w_a.n_in);
    a.n_groups = u32(op.n_groups);
    a.input = static_cast<std::uint32_t>(RowsInput::f32);
    a.n_matrices = 1;
    a.matrix[0] = rows_matrix(op.w_a, op.n_groups, RowsOutput::act);
    a.matrix[0].y_act = between;
    a.matrix[0].y_width = u32(width);
    set_passes(a);
    launch(Kernel::rows, {parts(width, 32), u32(n)}, a);
    RowsArgs b{};
    b.x_act = between;
    b.n = u32(n);
    b.n_in = u32(op.w_b.n_in);
    b.n_groups = 1;
    b.input = static_cast<std::uint32_t>(RowsInput::act);
    b.n_matrices = 1;
    b.matrix[0] = rows_matrix(op.w_b, 1, RowsOutput::f32);
    b.matrix[0].y = op.y.row(first);
    b.matrix[0].y_width = u32(op.y.width);
    set_passes(b);
    launch(Kernel::rows, {parts(op.w_b.n_out, 32), u32(n)}, b);
}

void Lowering::low_rank_prompt(const ops::LowRankMatmul& op, std::int64_t first, std::int64_t n) {
    const std::int64_t width = op.w_a.n_out;
    const Rows x = op.x.slice(first, n);
    auto* halves = scratch_.take<std::uint16_t>(n * x.width);
    auto* between = scratch_.take<std::uint16_t>(n * width);
    launch(Kernel::halves, {u32(n)}, HalvesArgs{x.data, halves, nullptr, u32(n), u32(x.width)});
    ProductArgs a{};
    a.x = halves;
    a.n = u32(n);
    a.n_in = u32(op.w_a.n_in);
    a.n_groups = u32(op.n_groups);
    a.n_matrices = 1;
    a.matrix[0] = product_matrix(op.w_a, op.n_groups, ProductOutput::halves);
    a.matrix[0].y_halves = between;
    a.matrix[0].y_width = u32(width);
    launch(Kernel::product, {parts(width, 32), u32(n)}, a);
    ProductArgs b{};
    b.x = between;
    b.n = u32(n);
    b.n_in = u32(op.w_b.n_in);
    b.n_groups = 1;
    b.n_matrices = 1;
    b.matrix[0] = product_matrix(op.w_b, 1, ProductOutput::f32);
    b.matrix[0].y = op.y.row(first);
    b.matrix[0].y_width = u32(op.y.width);
    launch(Kernel::product, {parts(op.w_b.n_out, 32), u32(n)}, b);
}

}  // namespace ds4::gpu
