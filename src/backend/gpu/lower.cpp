#include "backend/gpu/lower.h"

// The operations on rows, streams and histories; products and experts are in lower_products.cpp, attention
// and its selection in lower_attention.cpp.
namespace ds4::gpu {
namespace {

HcExpandArgs expand_args(const ops::HcExpand& op) {
    return {op.y.data, op.post.data, op.comb.data, op.streams.data, u32(op.y.width), u32(op.post.width)};
}

ops::HcCollapse some_rows(ops::HcCollapse op, std::int64_t first, std::int64_t n) {
    const auto cut = [&](Rows& rows) {
        if (rows.data != nullptr) rows = rows.slice(first, n);
    };
    for (Rows* rows : {&op.streams, &op.x, &op.post, &op.comb}) cut(*rows);
    if (op.expand) {
        for (Rows* rows : {&op.expand->y, &op.expand->post, &op.expand->comb, &op.expand->streams})
            cut(*rows);
    }
    return op;
}

HcSiteArgs site_args(const ops::HcCollapse& op) {
    const HyperConnection& hc = op.hc;
    HcSiteArgs site{};
    site.expand = op.expand ? expand_args(*op.expand)
                            : HcExpandArgs{nullptr,         nullptr,         nullptr,
                                           op.streams.data, u32(op.x.width), u32(hc.n_streams)};
    site.fn = bytes_at(hc.fn.data);
    site.row_bytes = static_cast<std::int64_t>(hc.fn.row_bytes);
    site.type = static_cast<std::uint32_t>(hc.fn.type);
    HcMixArgs& mix = site.mix;
    mix.streams = op.streams.data;
    mix.base = hc.base.data;
    mix.scale = hc.scale.data;
    mix.x = op.x.data;
    mix.post = op.post.data;
    mix.comb = op.comb.data;
    mix.norm = op.norm ? op.norm->w.data : nullptr;
    mix.width = u32(op.x.width);
    mix.n_streams = u32(hc.n_streams);
    mix.n_mix = u32(hc.fn.n_out);
    mix.sinkhorn_iterations = u32(hc.sinkhorn_iterations);
    mix.eps = hc.eps;
    mix.rms_eps = hc.rms_eps;
    mix.norm_eps = op.norm ? op.norm->eps : 0;
    return site;
}

}  // namespace

std::span<const Launch> Lowering::run(std::span<const ops::Op> ops) {
    launches_.clear();
    scratch_.release_old();
    for (std::size_t i = 0; i < ops.size();) {
        if (!products_.joins(ops[i])) multiply_pending();
        scratch_.restart();
        if (const std::size_t n = prepare_attention(ops.subspan(i)); n > 0) {
            i += n;
        } else {
            std::visit([this](const auto& one) { lower(one); }, ops[i++]);
        }
    }
    multiply_pending();
    return launches_;
}

void Lowering::lower(const ops::RmsNorm& op) {
    const RmsNormArgs args{op.x.data, op.w.data, op.y.data, u32(op.width), op.eps};
    launch(Kernel::rms_norm, {u32(op.x.n * op.x.width / op.width)}, args);
}

void Lowering::lower(const ops::Add& op) {
    const AddArgs args{op.x.data, op.y.data, u32(op.x.width), u32(op.y.width)};
    launch(Kernel::add, {u32(op.y.n), parts(op.y.width, kThreads)}, args);
}

void Lowering::lower(const ops::ArgMax& op) {
    launch(Kernel::arg_max, {u32(op.x.n)}, ArgMaxArgs{op.x.data, op.best, u32(op.x.width)});
}

void Lowering::lower(const ops::Embed& op) {
    const EmbedArgs args{reinterpret_cast<const std::uint8_t*>(op.table.data),
                         op.tokens,
                         op.streams.data,
                         static_cast<std::int64_t>(op.table.row_bytes),
                         static_cast<std::uint32_t>(op.table.type),
                         u32(op.table.n_in),
                         u32(op.n_streams)};
    launch(Kernel::embed, {u32(op.streams.n), parts(op.table.n_in, kThreads)}, args);
}

void Lowering::lower(const ops::HcCollapse& op) {
    for_runs(op.streams.n, [&](std::int64_t first, std::int64_t n, bool is_prompt) {
        const HcSiteArgs site = site_args(some_rows(op, first, n));
        is_prompt ? launch_prompt_site(site, n) : launch(Kernel::hc_site, {u32(n)}, site);
    });
}

void Lowering::launch_prompt_site(const HcSiteArgs& site, std::int64_t n) {
    const std::uint32_t n_slices = parts(site.mix.width, kHcColumns);
    scratch_.restart();
    auto* partial = scratch_.take<float>(n * n_slices * (site.mix.n_mix + 1));
    const HcDotsArgs dots{site.expand, site.fn, partial,        site.row_bytes,
                          site.type,   u32(n),  site.mix.n_mix, n_slices};
    launch(Kernel::hc_dots, {n_slices, parts(n, kHcRows)}, dots);
    HcMixArgs mix = site.mix;
    mix.partial = partial;
    mix.n_slices = n_slices;
    launch(Kernel::hc_mix, {u32(n)}, mix);
}

void Lowering::lower(const ops::HcExpand& op) {
    launch(Kernel::hc_expand, {u32(op.y.n), parts(op.y.width, kThreads)}, expand_args(op));
}

void Lowering::lower(const ops::Rope& op) {
    const RopeArgs args{op.x.data,
                        op.positions,
                        op.frequency,
                        u32(op.x.width),
                        u32(op.head_dim),
                        u32(op.n_dims),
                        op.inverse ? -1.0F : 1.0F};
    launch(Kernel::rope, {u32(op.x.n)}, args);
}

void Lowering::lower(const ops::RoundFp8& op) {
    const RoundFp8Args args{op.x.data, u32(op.x.width), u32(op.n_tail), op.tail_to_f16 ? 1U : 0U};
    launch(Kernel::round_fp8, {u32(op.x.n)}, args);
}

bool Lowering::all_generated(std::int64_t n) const {
    bool yes = true;
    for_runs(n, [&](auto, auto, bool is_prompt) { yes &= !is_prompt; });
    return yes;
}

NormRotateArgs Lowering::norm_rotate_args(const ops::NormRotate& op) {
    const std::int64_t n_heads = op.rope.x.width / op.rope.head_dim;
    NormRotateArgs args{};
    args.x = op.norm.x.data;
    args.w = op.norm.w.data;
    args.y = op.norm.y.data;
    args.positions = op.rope.positions;
    args.frequency = op.rope.frequency;
    args.n_heads = u32(n_heads);
    args.head_dim = u32(op.rope.head_dim);
    args.n_dims = u32(op.rope.n_dims);
    args.eps = op.norm.eps;
    args.direction = op.rope.inverse ? -1.0F : 1.0F;
    if (op.round) {
        args.rounds = 1;
        args.n_tail = u32(op.round->n_tail);
        args.tail_to_f16 = op.round->tail_to_f16 ? 1 : 0;
    }
    return args;
}

void Lowering::lower(const ops::NormRotate& op) {
    const NormRotateArgs args = norm_rotate_args(op);
    launch(Kernel::norm_rotate, {u32(op.rope.x.n) * args.n_heads}, args);
}

void Lowering::lower(const ops::RoundHadamardFp4& op) {
    const std::int64_t n_heads = op.x.n * op.x.width / op.head_dim;
    const RoundFp4Args args{op.x.data, u32(n_heads), u32(op.head_dim), inverse_root(op.head_dim)};
    launch(Kernel::round_hadamard_fp4, {parts(n_heads, kSimds)}, args);
}

RotateRoundArgs Lowering::rotate_round_args(const ops::RotateRound& op) {
    const ops::Rope& rope = op.rope;
    return {rope.x.data,
            rope.positions,
            rope.frequency,
            u32(rope.x.n),
            u32(rope.x.width / rope.head_dim),
            u32(rope.head_dim),
            u32(rope.n_dims),
            rope.inverse ? -1.0F : 1.0F,
            inverse_root(rope.head_dim)};
}

void Lowering::lower(const ops::RotateRound& op) {
    const RotateRoundArgs args = rotate_round_args(op);
    launch(Kernel::rotate_round, {parts(op.rope.x.n * args.n_heads, kSimds)}, args);
}

CompressArgs Lowering::compress_args(const ops::Compress& op) {
    const Compressor& c = op.compressor;
    const bool fp8 = c.finish == Compressor::Finish::fp8;
    CompressArgs args{};
    args.batch = op.batch.args;
    args.value = op.value.data;
    args.score = op.score.data;
    args.ape = reinterpret_cast<const float*>(c.ape.data);
    args.norm = c.norm.data;
    args.frequency = op.frequency;
    args.ratio = u32(c.ratio);
    args.dim = u32(c.dim);
    args.width = u32(op.value.width);
    args.n_dims = u32(c.rope.n_dims);
    args.of_indexer = op.of_indexer ? 1 : 0;
    args.finish = !c.rounding ? 0 : fp8 ? 1 : 2;
    args.rms_eps = c.rms_eps;
    args.hadamard_scale = inverse_root(c.dim);
    return args;
}

void Lowering::lower(const ops::Compress& op) {
    const CompressArgs args = compress_args(op);
    const std::int64_t ratio = op.compressor.ratio, most_windows = op.batch.max_segment_rows / ratio + 1;
    launch(Kernel::compress_emit, {u32(most_windows), u32(op.batch.n_segments)}, args);
    launch(Kernel::compress_move, {u32(op.batch.n_segments), parts(ratio * op.value.width, kThreads)}, args);
}

// q, kv, up to two compressors and the indexer's heads of generated rows become one launch.
std::size_t Lowering::prepare_attention(std::span<const ops::Op> ops) {
    std::size_t n = 0;
    const auto next = [&]<class Op>(const Op*& op) {
        op = n < ops.size() ? std::get_if<Op>(&ops[n]) : nullptr;
        if (op != nullptr) ++n;
        return op != nullptr;
    };
    const ops::NormRotate *q = nullptr, *kv = nullptr;
    if (!next(q) || !next(kv) || kv->rope.x.width != kv->rope.head_dim || q->rope.x.n != kv->rope.x.n ||
        q->rope.x.data == kv->rope.x.data || !all_generated(q->rope.x.n)) {
        return 0;
    }
    PrepareAttentionArgs args{};
    args.q = norm_rotate_args(*q);
    args.kv = norm_rotate_args(*kv);
    args.n = u32(kv->rope.x.n);
    args.n_segments = 1;
    for (const ops::Compress* c = nullptr; args.n_compressors < 2 && next(c);) {
        if (c->batch.max_segment_rows > kGeneratedRows) return 0;
        args.compress[args.n_compressors++] = compress_args(*c);
        args.n_segments = u32(c->batch.n_segments);
    }
    const ops::RotateRound* index_q = nullptr;
    if (next(index_q)) {
        args.index_q = rotate_round_args(*index_q);
        args.index_groups = parts(index_q->rope.x.n * args.index_q.n_heads, kSimds);
    }
    const std::uint32_t n_groups =
        args.n_compressors * args.n_segments + args.n + args.index_groups + args.n * args.q.n_heads;
    launch(Kernel::prepare_attention, {n_groups}, args);
    return n;
}

void Lowering::lower(const ops::StoreWindow& op) {
    const StoreWindowArgs args{op.batch.args, op.kv.data, u32(op.kv.width)};
    launch(Kernel::store_window, {u32(op.kv.n)}, args);
}

}  // namespace ds4::gpu
