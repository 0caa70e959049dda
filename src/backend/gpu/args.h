#pragma once

#include <stdint.h>

// What the kernels are told: one POD per kernel family, written by the host (lower*.cpp) and read by every
// device. Pointers are device memory; whatever changes from step to step (tokens, positions, segments,
// histories) is reached through pointers into the step table, so that a captured launch stays valid. Shapes
// stand beside the fields; n is the number of rows of the batch. "Group" is a thread group: kernel_list.h
// says how many threads it has, the comments here what the grid is.
#if !defined(DS4_GLOBAL)
#define DS4_GLOBAL
#endif

namespace ds4::gpu {

inline constexpr uint32_t kArgsBytes = 512;  // the most that one kernel's arguments take

// What the kernels have room for; the backend refuses more.
inline constexpr uint32_t kMaxHeadDim = 512;   // D, of attention and its compressor
inline constexpr uint32_t kMaxIndexDim = 256;  // ID
inline constexpr uint32_t kMaxStreams = 16;    // M
inline constexpr uint32_t kMaxExperts = 512;   // X
inline constexpr uint32_t kMaxUsed = 32;       // experts of a token

// ---- rows

// y = w * x / rms(x), each row on its own. Grid: (rows). model.md 4.1
struct RmsNormArgs {
    const DS4_GLOBAL float* x;  // (rows, width)
    const DS4_GLOBAL float* w;  // (width), or null: unweighted
    DS4_GLOBAL float* y;        // (rows, width); may be x
    uint32_t width;
    float eps;
};

// best[r]: where the first of row r's largest values is; 0 if all are -infinity or NaN. Grid: (n)
struct ArgMaxArgs {
    const DS4_GLOBAL float* x;  // (n, width)
    DS4_GLOBAL int32_t* best;   // (n)
    uint32_t width;
};

// y[r] += x[r] on every x_width-wide slice. Grid: (n, parts of y_width)
struct AddArgs {
    const DS4_GLOBAL float* x;  // (n, x_width)
    DS4_GLOBAL float* y;        // (n, y_width)
    uint32_t x_width, y_width;  // y_width is a multiple of x_width
};

// Rotates the last n_dims of each head by the row's position. Grid: (n). model.md 5
struct RopeArgs {
    DS4_GLOBAL float* x;                  // (n, width)
    const DS4_GLOBAL int32_t* positions;  // (n)
    const DS4_GLOBAL float* frequency;    // (n_dims / 2)
    uint32_t width, head_dim, n_dims;
    float direction;  // 1, or -1 to turn back
};

// FP8 round trip of dims [0, width - n_tail), F16 of the others if asked for. Grid: (n). model.md 9.1
struct RoundFp8Args {
    DS4_GLOBAL float* x;  // (n, width)
    uint32_t width, n_tail;
    uint32_t tail_to_f16;
};

// RmsNorm, Rope and, if it rounds (n_heads is 1 then), RoundFp8. Grid: (n * n_heads)
struct NormRotateArgs {
    const DS4_GLOBAL float* x;            // (n, n_heads * head_dim)
    const DS4_GLOBAL float* w;            // (head_dim), or null: unweighted
    DS4_GLOBAL float* y;                  // as x; may be x
    const DS4_GLOBAL int32_t* positions;  // (n)
    const DS4_GLOBAL float* frequency;    // (n_dims / 2)
    uint32_t n_heads, head_dim, n_dims;
    float eps;
    float direction;  // 1, or -1 to turn back
    uint32_t rounds, n_tail, tail_to_f16;
};

// Hadamard transform and FP4 round trip of heads. Grid: (parts of n_heads). model.md 9.2
struct RoundFp4Args {
    DS4_GLOBAL float* x;  // (n_heads, head_dim)
    uint32_t n_heads, head_dim;
    float scale;  // head_dim^-0.5
};

// Rope, then RoundFp4, of the same heads. Grid: (parts of all heads)
struct RotateRoundArgs {
    DS4_GLOBAL float* x;                  // (n, n_heads * head_dim)
    const DS4_GLOBAL int32_t* positions;  // (n)
    const DS4_GLOBAL float* frequency;    // (n_dims / 2)
    uint32_t n, n_heads, head_dim, n_dims;
    float direction;  // 1, or -1 to turn back
    float scale;      // head_dim^-0.5
};

// gate = silu(min(gate, clamp)) * clamp(up, -clamp, clamp) * weight[row]. Grid: (rows, parts of width).
// model.md 10
struct SwigluArgs {
    DS4_GLOBAL float* gate;          // (rows, width)
    const DS4_GLOBAL float* up;      // (rows, width)
    const DS4_GLOBAL float* weight;  // (rows), or null: 1
    uint32_t width;
    float clamp;  // <= 1e-6: none
};

// ---- products (kernels/products.h)

// Rows of x become activation rows as products take them: int8 codes with scales (kernels/activations.h).
// Grid: (n, parts of the blocks of a row)
struct PrepareArgs {
    const DS4_GLOBAL float* x;  // (n, width)
    DS4_GLOBAL uint8_t* out;    // (n, stride) bytes
    uint32_t width, stride;
};

// y[r] = w x[r]; output o of n_out uses input group o / (n_out / n_groups). The rows of one product are never
// split over groups, so a row's bits do not depend on n. Grid: (parts of n_out, parts of n)
struct MatmulArgs {
    const DS4_GLOBAL uint8_t* w;     // (n_out, n_in) in the format of the kernel
    const DS4_GLOBAL uint8_t* acts;  // (n, n_groups) activation rows, act_stride bytes apart; or f32
    DS4_GLOBAL float* y;             // (n, n_out)
    int64_t row_bytes;               // of w
    uint32_t n_in, n_out, n, n_groups;
    uint32_t act_stride;
};

// y[p] = w[expert[p]] x[p / acts_per_row] for (row, slot) pairs p. Grid: (parts of n_out, n_pairs)
struct ExpertProductArgs {
    const DS4_GLOBAL uint8_t* w;       // stack of (n_out, n_in)
    const DS4_GLOBAL uint8_t* acts;    // (n_pairs / pairs_per_act) activation rows, act_stride bytes apart
    const DS4_GLOBAL int32_t* expert;  // (n_pairs)
    DS4_GLOBAL float* y;               // (n_pairs, n_out)
    int64_t row_bytes;
    uint32_t n_in, n_out;
    uint32_t act_stride, pairs_per_act;
};

// y[r] = sum over slots of x[r, slot], in slot order. Grid: (n, parts of width)
struct SumSlotsArgs {
    const DS4_GLOBAL float* x;  // (n, n_used, width)
    DS4_GLOBAL float* y;        // (n, width)
    uint32_t n_used, width;
};

// ---- streams (model.md 4.2)

// Every stream of row r becomes row tokens[r] of the table. Grid: (n, parts of width)
struct EmbedArgs {
    const DS4_GLOBAL uint8_t* table;  // (vocab, width) in `type`
    const DS4_GLOBAL int32_t* tokens;
    DS4_GLOBAL float* streams;  // (n, n_streams * width)
    int64_t row_bytes;
    uint32_t type;  // quant::Type
    uint32_t width, n_streams;
};

// streams[k] = post[k] * y + sum_j comb[j][k] * streams[j]. Grid: (n, parts of width)
struct HcExpandArgs {
    const DS4_GLOBAL float* y;     // (n, width); as part of HcDotsArgs and HcSiteArgs null: nothing to add
    const DS4_GLOBAL float* post;  // (n, n_streams)
    const DS4_GLOBAL float* comb;  // (n, n_streams * n_streams)
    DS4_GLOBAL float* streams;     // (n, n_streams * width)
    uint32_t width, n_streams;
};

// hc_collapse and hc_head, after an hc_expand if there is one, have two forms: rows of prompts take two
// launches, HcDotsArgs and HcMixArgs; a generated row takes one, HcSiteArgs.

// Expands a slice of the streams, kHcColumns columns of every stream, and sums what the slice adds to the
// products with fn and to the squares: partial[row][slice] = (fn x, x x). Grid: (slices, parts of kHcRows
// rows)
inline constexpr uint32_t kHcColumns = 128;
inline constexpr uint32_t kHcRows = 8;
struct HcDotsArgs {
    HcExpandArgs expand;
    const DS4_GLOBAL uint8_t* fn;  // (n_mix, n_streams * width)
    DS4_GLOBAL float* partial;     // (n, slices, n_mix + 1)
    int64_t row_bytes;             // of fn
    uint32_t type;                 // quant::Type of fn
    uint32_t n, n_mix, n_slices;
};

// What is left then: norm, sigmoids, Sinkhorn, the weighted sum of the streams. Grid: (n)
struct HcMixArgs {
    const DS4_GLOBAL float* streams;  // (n, n_streams * width)
    const DS4_GLOBAL float* partial;  // (n, n_slices, n_mix + 1), of hc_dots
    const DS4_GLOBAL float* base;     // (n_mix)
    const DS4_GLOBAL float* scale;    // (3), at the head (1)
    DS4_GLOBAL float* x;              // (n, width)
    DS4_GLOBAL float* post;           // (n, n_streams); null at the head
    DS4_GLOBAL float* comb;           // (n, n_streams * n_streams)
    const DS4_GLOBAL float* norm;     // (width), of an RmsNorm of x; null: none
    uint32_t width, n_streams, n_mix, n_slices;
    uint32_t sinkhorn_iterations;
    float eps, rms_eps, norm_eps;
};

// Both for rows that are not looked at together. post and comb of mix may be those of expand. Grid: (n)
struct HcSiteArgs {
    HcExpandArgs expand;
    HcMixArgs mix;                 // without partial
    const DS4_GLOBAL uint8_t* fn;  // (n_mix, n_streams * width)
    int64_t row_bytes;             // of fn
    uint32_t type;                 // quant::Type of fn
};

// ---- histories

// How a row of the KV state is stored: quant::KvRowFormat.
struct KvFormatArgs {
    uint32_t code;  // quant::KvRowFormat::Code
    uint32_t width, n_tail, bytes;
};

// backend.h PagedRows
struct PagedRowsArgs {
    DS4_GLOBAL uint8_t* const DS4_GLOBAL* pages;
    uint32_t offset, log2_rows;
    KvFormatArgs format;
};

struct FrontierArgs {
    DS4_GLOBAL float* value;  // (slots, width)
    DS4_GLOBAL float* score;  // (slots, width)
};

// backend.h LayerHistory, one per segment in the step table
struct HistoryArgs {
    DS4_GLOBAL float* window;  // (window_rows, D)
    PagedRowsArgs compressed, indexer;
    FrontierArgs compressor, indexer_compressor;
    uint32_t window_rows;
    uint32_t padding;  // no byte is undefined: histories are compared as they lie in memory
};

struct SegmentArgs {
    int32_t first_row, n_rows, start;
};

// Who the rows of a batch are; all in the step table.
struct BatchArgs {
    const DS4_GLOBAL SegmentArgs* segments;  // (n_segments)
    const DS4_GLOBAL HistoryArgs* history;   // (n_segments), of one layer
    const DS4_GLOBAL int32_t* row_segment;   // (n)
    uint32_t n;
};

// model.md 7
struct CompressArgs {
    BatchArgs batch;
    const DS4_GLOBAL float* value;      // (n, width)
    const DS4_GLOBAL float* score;      // (n, width), without ape
    const DS4_GLOBAL float* ape;        // (ratio, width)
    const DS4_GLOBAL float* norm;       // (dim)
    const DS4_GLOBAL float* frequency;  // (n_dims / 2)
    uint32_t ratio, dim, width;         // width = 2 * dim: windows overlap
    uint32_t n_dims;                    // rotated
    uint32_t of_indexer;
    uint32_t finish;  // 0 none, 1 fp8, 2 Hadamard and FP4
    float rms_eps;
    float hadamard_scale;  // dim^-0.5
};

// What stands between the products of a generated row and its attention, by groups of its own each, in this
// order: compressors (one for n_segments groups), kv, heads of the indexer, q. Grid: (all of them)
struct PrepareAttentionArgs {
    CompressArgs compress[2];
    NormRotateArgs kv, q;
    RotateRoundArgs index_q;  // n is 0: none
    uint32_t n, n_compressors, n_segments, index_groups;
};

// Scores of rows [first_row, ..) against their indexer rows, for rows that see more than `capacity` of them.
// Grid: (rows, parts of the most rows seen). model.md 8
struct IndexScoresArgs {
    BatchArgs batch;
    const DS4_GLOBAL float* q;       // (n, n_heads * head_dim)
    const DS4_GLOBAL float* weight;  // (n, n_heads)
    DS4_GLOBAL float* scores;        // (rows, stride)
    uint32_t first_row, stride;
    uint32_t n_heads, head_dim, capacity;
    uint32_t packed;  // 1: all indexer rows are stored as FP4, so q lies on the grid, too
};

// The best `capacity` of a row's scores, or all rows it sees. Grid: (rows)
struct SelectArgs {
    BatchArgs batch;
    const DS4_GLOBAL float* scores;  // (rows, stride)
    DS4_GLOBAL int32_t* rows;        // (n, capacity)
    DS4_GLOBAL int32_t* count;       // (n)
    uint32_t first_row, stride, capacity;
};

// Both: the group of a row that is the last to have scored selects. Grid: as of the scores
struct IndexSelectArgs {
    IndexScoresArgs scores;
    DS4_GLOBAL int32_t* rows;      // (n, capacity)
    DS4_GLOBAL int32_t* count;     // (n)
    DS4_GLOBAL uint32_t* arrived;  // (rows) groups that have scored; 0 before and after the launch
};

// model.md 6. Rows [first_row, first_row + n_rows) of the batch. Grid of the whole form: (n_rows * head
// tiles); of the split form: (n_rows * head tiles, pieces); of the merge: (n_rows * head tiles)
struct AttentionArgs {
    BatchArgs batch;
    const DS4_GLOBAL float* q;      // (n, n_heads * head_dim)
    const DS4_GLOBAL float* kv;     // (n, head_dim), raw rows of the batch
    const DS4_GLOBAL float* sinks;  // (n_heads)
    // (n, capacity) selected rows; null: all that exist. Where it is not, the launch before the split form
    // wrote it, and q, kv and the stored rows are older.
    const DS4_GLOBAL int32_t* list;
    const DS4_GLOBAL int32_t* count;  // (n)
    DS4_GLOBAL float* out;            // (n, n_heads * head_dim)
    DS4_GLOBAL float* partial;        // (n_rows, n_heads, n_pieces, head_dim + 2); split form only
    uint32_t first_row, n_rows;
    uint32_t capacity, n_heads, head_dim;
    uint32_t window, ratio;  // ratio 0: no compressed rows
    uint32_t n_pieces;
    float scale;  // head_dim^-0.5
    // The last n_dims of each head of the result are rotated; 0: none.
    uint32_t n_dims;
    float direction;                      // as in RopeArgs
    const DS4_GLOBAL int32_t* positions;  // (n)
    const DS4_GLOBAL float* frequency;    // (n_dims / 2)
    // attention_merge: n_rows groups more, which do what store_window does.
    uint32_t stores_window;
};

// Grid: (n)
struct StoreWindowArgs {
    BatchArgs batch;
    const DS4_GLOBAL float* kv;  // (n, width)
    uint32_t width;
};

// ---- experts (model.md 10)

// Grid: (n)
struct RouteArgs {
    const DS4_GLOBAL float* logits;    // (n, n_experts)
    const DS4_GLOBAL float* bias;      // (n_experts), or null
    const DS4_GLOBAL int32_t* hash;    // (vocab, n_used), or null
    const DS4_GLOBAL int32_t* tokens;  // (n)
    DS4_GLOBAL int32_t* expert;        // (n, n_used)
    DS4_GLOBAL float* weight;          // (n, n_used)
    uint32_t n_experts, n_used;
    uint32_t normalise;
    float weight_scale;
};

}  // namespace ds4::gpu
