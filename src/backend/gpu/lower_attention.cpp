#include <algorithm>

#include "backend/gpu/lower.h"

// Attention and the indexer's selection.
namespace ds4::gpu {

void Lowering::lower(const ops::SelectRows& op) {
    constexpr std::int64_t kRatio = 4;
    constexpr std::int64_t kKeyTile = 32;                       // of index_scores
    constexpr std::int64_t kMaxScores = std::int64_t{1} << 24;  // at a time: 64 MiB
    const std::int64_t n = op.batch.args.n;
    const std::int64_t capacity = op.selection.capacity;
    const std::int64_t most_seen = op.batch.end / kRatio;
    const std::int64_t stride = parts(most_seen, kKeyTile) * kKeyTile;
    const bool scores_needed = most_seen > capacity;
    const std::int64_t at_once =
        scores_needed ? std::clamp<std::int64_t>(kMaxScores / stride, 1, std::max<std::int64_t>(n, 1)) : n;
    float* scores = scores_needed ? scratch_.take<float>(at_once * stride) : nullptr;
    for (std::int64_t first = 0; first < n; first += at_once) {
        const std::uint32_t n_rows = u32(std::min(at_once, n - first));
        if (scores_needed) {
            const IndexScoresArgs args{op.batch.args, op.q.data,   op.weight.data,       scores,
                                       u32(first),    u32(stride), u32(op.weight.width), u32(op.head_dim),
                                       u32(capacity)};
            launch(Kernel::index_scores, {n_rows, parts(most_seen, kKeyTile)}, args);
        }
        const SelectArgs args{op.batch.args, scores,      op.selection.rows, op.selection.count,
                              u32(first),    u32(stride), u32(capacity)};
        launch(Kernel::select_rows, {n_rows}, args);
    }
}

void Lowering::lower(const ops::Attend& op) {
    constexpr std::int64_t kPiece = 64;                          // keys, of kernels/attention.h
    constexpr std::int64_t kEnoughGroups = 512;                  // fill a GPU without splitting
    constexpr std::int64_t kMaxPartial = std::int64_t{1} << 26;  // floats: 256 MiB
    const Attention& spec = op.attention;
    std::int64_t most_seen = std::min(spec.window, op.batch.end);
    if (spec.ratio != 0) {
        const std::int64_t n_compressed = op.batch.end / spec.ratio;
        most_seen +=
            op.selection.rows == nullptr ? n_compressed : std::min(n_compressed, op.selection.capacity);
    }
    const std::int64_t n = op.batch.args.n;
    const std::int64_t n_pieces = parts(most_seen, kPiece);
    const std::uint32_t n_groups = u32(n * parts(spec.n_heads, kSimds));
    const std::int64_t partial_floats = n * spec.n_heads * n_pieces * (spec.head_dim + 2);
    const bool splits = n_pieces > 1 && n_groups < kEnoughGroups && partial_floats <= kMaxPartial;

    AttentionArgs args{};
    args.batch = op.batch.args;
    args.q = op.q.data;
    args.kv = op.kv.data;
    args.sinks = spec.sinks.data;
    args.list = op.selection.rows;
    args.count = op.selection.count;
    args.out = op.out.data;
    args.capacity = u32(op.selection.capacity);
    args.n_heads = u32(spec.n_heads);
    args.head_dim = u32(spec.head_dim);
    args.window = u32(spec.window);
    args.ratio = u32(spec.ratio);
    args.n_pieces = u32(n_pieces);
    args.scale = inverse_root(spec.head_dim);
    if (!splits) {
        launch(Kernel::attention_whole, {n_groups}, args);
        if (op.store) lower(*op.store);
        if (op.rope) lower(*op.rope);
        return;
    }
    // The merge has registers to spare for sines, the whole form would lose half its speed.
    if (op.rope) {
        args.n_dims = u32(op.rope->n_dims);
        args.direction = op.rope->inverse ? -1.0F : 1.0F;
        args.positions = op.rope->positions;
        args.frequency = op.rope->frequency;
    }
    args.partial = scratch_.take<float>(partial_floats);
    args.stores_window = op.store ? 1 : 0;
    launch(Kernel::attention_split, {n_groups, args.n_pieces}, args);
    launch(Kernel::attention_merge, {n_groups + (op.store ? u32(n) : 0)}, args);
}

}  // namespace ds4::gpu
