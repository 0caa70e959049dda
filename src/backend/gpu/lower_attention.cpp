#include <algorithm>

#include "backend/gpu/lower.h"

// Attention and the indexer's selection.
namespace ds4::gpu {

namespace {
constexpr std::int64_t kOneLaunchRows = 64;  // score and select in one: batches of generated rows
}

// Scores stay in memory for a bounded number of rows at a time.
void Lowering::lower(const ops::SelectRows& op) {
    constexpr std::int64_t kRatio = 4;
    constexpr std::int64_t kKeyTile = 32;                       // of index_scores
    constexpr std::int64_t kMaxScores = std::int64_t{1} << 24;  // at a time: 64 MiB
    const std::int64_t n = op.batch.args.n;
    const std::int64_t capacity = op.selection.capacity;
    const std::int64_t most_seen = op.batch.end / kRatio;
    const std::int64_t stride = parts(most_seen, kKeyTile) * kKeyTile;
    SelectArgs select{op.batch.args, nullptr,      op.selection.rows, op.selection.count, 0,
                      u32(stride),   u32(capacity)};
    if (most_seen <= capacity) return launch(Kernel::select_rows, {u32(n)}, select);

    const std::int64_t at_once =
        std::clamp<std::int64_t>(kMaxScores / stride, 1, std::max<std::int64_t>(n, 1));
    float* scores = scratch_.take<float>(at_once * stride);
    select.scores = scores;
    for (std::int64_t first = 0; first < n; first += at_once) {
        const std::int64_t n_rows = std::min(at_once, n - first);
        const Grid grid{u32(n_rows), parts(most_seen, kKeyTile)};
        const IndexScoresArgs args{op.batch.args,        op.q.data,
                                   op.weight.data,       scores,
                                   u32(first),           u32(stride),
                                   u32(op.weight.width), u32(op.head_dim),
                                   u32(capacity),        op.batch.index_rows_packed ? 1U : 0U};
        if (n <= kOneLaunchRows) {
            launch(Kernel::index_select, grid,
                   IndexSelectArgs{args, op.selection.rows, op.selection.count, arrived()});
        } else {
            launch(Kernel::index_scores, grid, args);
            select.first_row = u32(first);
            launch(Kernel::select_rows, {u32(n_rows)}, select);
        }
    }
}

std::uint32_t* Lowering::arrived() {
    if (arrived_.bytes() == 0) {
        arrived_ = Buffer(device_, kOneLaunchRows * sizeof(std::uint32_t));
        device_.fill_zero(arrived_.get(), arrived_.bytes());
    }
    return reinterpret_cast<std::uint32_t*>(arrived_.get());
}

// Generated rows are cut into pieces, however many there are, so that none of their bits depends on the
// others; prompts fill a GPU without.
void Lowering::lower(const ops::Attend& op) {
    constexpr std::int64_t kPiece = 64;                          // keys, of kernels/attention.h
    constexpr std::int64_t kMaxPartial = std::int64_t{1} << 26;  // floats: 256 MiB
    const Attention& spec = op.attention;
    std::int64_t most_seen = std::min(spec.window, op.batch.end);
    if (spec.ratio != 0) {
        const std::int64_t n_compressed = op.batch.end / spec.ratio;
        most_seen +=
            op.selection.rows == nullptr ? n_compressed : std::min(n_compressed, op.selection.capacity);
    }
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
    args.n_pieces = parts(most_seen, kPiece);
    args.scale = inverse_root(spec.head_dim);
    if (op.rope) {
        args.n_dims = u32(op.rope->n_dims);
        args.direction = op.rope->inverse ? -1.0F : 1.0F;
        args.positions = op.rope->positions;
        args.frequency = op.rope->frequency;
    }
    const std::uint32_t tiles = parts(spec.n_heads, kSimds);
    const std::int64_t partial_floats = spec.n_heads * args.n_pieces * (spec.head_dim + 2);  // of a row
    const std::int64_t n = op.batch.args.n;
    std::int64_t most_generated = 0;
    for_runs(n, [&](auto, std::int64_t n_rows, bool is_prompt) {
        if (!is_prompt) most_generated = std::max(most_generated, n_rows);
    });
    const std::int64_t at_once =
        std::min(std::max<std::int64_t>(kMaxPartial / partial_floats, 1), most_generated);
    if (most_generated > 0) args.partial = scratch_.take<float>(at_once * partial_floats);
    // With the rows of a launch, unless another one still reads the window.
    const bool stores = op.store && n <= at_once && all_generated(n);
    for_runs(n, [&](std::int64_t begin, std::int64_t n_of_run, bool is_prompt) {
        for (std::int64_t first = begin; first < begin + n_of_run;) {
            const std::int64_t n_rows = is_prompt ? n_of_run : std::min(at_once, begin + n_of_run - first);
            args.first_row = u32(first);
            args.n_rows = u32(n_rows);
            first += n_rows;
            if (is_prompt) {
                launch(Kernel::attention_whole, {args.n_rows * tiles}, args);
                continue;
            }
            args.stores_window = stores ? 1 : 0;
            launch(Kernel::attention_split, {args.n_rows * tiles, args.n_pieces}, args);
            launch(Kernel::attention_merge, {args.n_rows * tiles + (stores ? args.n_rows : 0)}, args);
        }
    });
    if (op.store && !stores) lower(*op.store);
}

}  // namespace ds4::gpu
