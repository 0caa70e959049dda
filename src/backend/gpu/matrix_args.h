#pragma once

#include <stdint.h>

#include "backend/gpu/args.h"
#include "backend/gpu/tiles.h"

// Arguments of the matrix families, whose bodies differ between devices. Weights are tiles (tiles.h). Row
// counts are those of the launch; what changes from step to step (experts, their members, weights of routes)
// is read from device memory. Grids are those of the plain bodies (kernels/tile_*.h), whose groups have 32
// threads; bodies of a device's own choose theirs.
namespace ds4::gpu {

// 256 activations as int8 x scale. Products with Q8_0 have a scale per 32; for products of the experts' gate
// and up the eight scales are equal (one scale per 256, as on the CPU).
struct ActBlock {
    int8_t code[256];
    float scale[8];
};
static_assert(sizeof(ActBlock) == 288);

constexpr uint32_t kActInputs = 256;
constexpr uint32_t kSumInputs = 16;  // "sums": scale * sum of the codes of 16 inputs, f32 (rows, n_in / 16)

// ---- rows: y = w x for 1 .. 16 rows of x

enum class RowsInput : uint32_t {
    act,   // x_act
    f32,   // x_f32, quantised per 32 on the way in
    norm,  // x_f32, normed with `norm` and quantised on the way in
};

enum class RowsOutput : uint32_t {
    f32,     // y
    swiglu,  // row tiles are gate, up, gate, up, ...: y = silu(min(g, clamp)) * clamp(u)
    act,     // quantised per 32: y_act, blocks of the row
};

struct RowsMatrix {
    const uint8_t* tiles;
    union {
        float* y;         // (n, y_width)
        ActBlock* y_act;  // (n, y_width / 256)
    };
    uint32_t y_width;  // of a row of the result
    uint32_t n_out;
    uint32_t first_pass;  // of the grid; ascending over the matrices
    // Warps that share a row tile: 1, 2, 4, 8, 16 (matrix_plan.h). A property of the matrix, never of the
    // batch.
    uint16_t k_split;
    uint8_t layout;          // tiles::Layout: q8_0 or f16
    uint8_t output;          // RowsOutput
    uint32_t tiles_a_group;  // row tiles that read the same n_in inputs; 0: all (grouped product otherwise)
};

constexpr uint32_t kMaxRowsMatrices = 7;

struct RowsArgs {
    const ActBlock* x_act;  // (n, groups * n_in / 256)
    const float* x_f32;     // (n, groups * n_in); what F16 matrices read
    const float* norm;      // (n_in)
    uint32_t n;             // rows of x, 1 .. 16
    uint32_t n_in;          // of a group
    uint32_t n_groups;
    uint32_t n_matrices;
    uint32_t n_passes;  // of all matrices: rows_passes() each
    uint32_t input;     // RowsInput
    float eps, clamp;
    RowsMatrix matrix[kMaxRowsMatrices];
};

// ---- experts

// An expert with up to 8 of the step's (row, slot) pairs; pair = row * n_used + slot. An expert with more has
// several entries.
struct ExpertEntry {
    int32_t expert;
    int32_t n;
    int32_t pair[8];
    int32_t padding[2];
};
static_assert(sizeof(ExpertEntry) == 48);

struct ExpertList {
    int32_t n_entries;
    int32_t padding[3];
    ExpertEntry entry[1];  // (n_entries), ascending experts
};

constexpr uint32_t kMaxListPairs = 256;

// What gate_up reads: rows of x with one scale per 256 and their sums, and the list of the experts that
// route.expert names; with route.logits they are chosen first. Pairs whose expert is negative are left out.
// Grid: (1 + parts of n * n_in / 256)
struct PrepareExpertsArgs {
    RouteArgs route;
    const float* x;    // (n, n_in)
    ActBlock* act;     // (n, n_in / 256)
    float* sums;       // (n, n_in / 16)
    ExpertList* list;  // room for n_pairs entries
    uint32_t n, n_in, n_pairs;
};

// act[pair] = quantised (silu(min(gate x, clamp)) * clamp(up x) * weight[pair]), per 32.
struct GateUpArgs {
    const uint8_t* tiles;  // per expert [gate row tile, up row tile, gate, up, ...][input tile]
    uint64_t expert_bytes;
    const ExpertList* list;
    const ActBlock* x;     // (n, n_in / 256), one scale per 256
    const float* x_sums;   // (n, n_in / 16); Q4_K only
    const float* weight;   // (pairs)
    const uint32_t* grid;  // (256), tiles::iq2_selectors of every row of the codebook; IQ2_XXS only
    ActBlock* act;         // (pairs, n_ff / 256)
    float* act_sums;       // (pairs, n_ff / 16)
    const float*
        shared_f32;        // (n, n_ff), the shared expert's activations, or null; quantised beside the rest
    ActBlock* shared_act;  // (n, n_ff / 256), the result
    uint32_t n, n_in, n_ff, n_used;
    float clamp;
    uint32_t layout;  // tiles::Layout: iq2_xxs or q4_k
};

// y[row] = sum of the slots' down products in slot order, + shared_down shared_act[row].
struct DownArgs {
    const uint8_t* tiles;  // per expert [row tile][input tile]
    uint64_t expert_bytes;
    const ExpertList* list;
    const ActBlock* act;          // (pairs, n_ff / 256), a scale per 32
    const float* act_sums;        // (pairs, n_ff / 16)
    const uint8_t* shared_tiles;  // Q8_0 tiles; may be null
    const ActBlock* shared_act;   // (n, n_ff / 256)
    float* y;                     // (n, n_out)
    uint32_t n, n_ff, n_out, n_used;
    uint32_t layout;  // tiles::Layout: q2_k or q4_k
};

// ---- prefill: products with halves. x is (rows, width) of halves, each row in the order tiles::half_place.

// high[r][half_place(i)] = half of x[r][i], low = 2^11 times what that leaves, if wanted. Values past the
// range of a half become infinite.
struct HalvesArgs {
    const float* x;  // (n, n_in)
    uint16_t* high;  // (n, n_in)
    uint16_t* low;   // (n, n_in), or null
    uint32_t n, n_in;
};

enum class ProductOutput : uint32_t {
    f32,            // y
    halves,         // y_halves
    swiglu_halves,  // row tiles are gate, up, gate, up, ...: y_halves = silu(min(g, clamp)) * clamp(u)
};

struct ProductMatrix {
    const uint8_t* tiles;
    union {
        float* y;            // (n, y_width)
        uint16_t* y_halves;  // (n, y_width)
    };
    uint32_t y_width;
    uint32_t n_out;
    uint32_t first_block;    // of a grid of row blocks; the launch's business
    uint32_t tiles_a_group;  // row tiles that read the same n_in inputs; 0: all
    uint8_t layout;          // tiles::Layout: q8_0 or f16
    uint8_t output;          // ProductOutput
    uint8_t whole_x;         // multiply by x_low, too: 22 bits of x instead of 11
};

constexpr uint32_t kMaxProductMatrices = 8;

// y = w x for each of the matrices.
struct ProductArgs {
    const uint16_t* x;      // (n, n_groups * n_in)
    const uint16_t* x_low;  // the same; may be null if no matrix has whole_x
    uint32_t n, n_in, n_groups;
    uint32_t n_matrices;
    uint32_t n_blocks;  // as first_block
    float clamp;
    ProductMatrix matrix[kMaxProductMatrices];
};

constexpr uint32_t kMaxSortedExperts = 512;

// Pairs (row * n_used + slot) by expert, ascending within an expert: those of expert e are pair[first[e]] up
// to pair[first[e + 1] - 1]. Pairs whose expert is negative are left out.
struct SortArgs {
    const int32_t* expert;  // (n_pairs)
    int32_t* first;         // (n_experts + 1)
    int32_t* pair;          // (n_pairs)
    uint32_t n_pairs, n_experts;
};

// act[i] = silu(min(gate x, clamp)) * clamp(up x) * weight[pair[i]] for the pairs in sorted order.
struct GroupedGateUpArgs {
    const uint8_t* tiles;  // as in GateUpArgs
    uint64_t expert_bytes;
    const int32_t *first, *pair;
    const uint16_t* x;     // (rows, n_in)
    const float* weight;   // (n_pairs)
    const uint32_t* grid;  // as in GateUpArgs
    uint16_t* act;         // (n_pairs, n_ff)
    uint32_t n_experts, n_in, n_ff, n_used;
    float clamp;
    uint32_t layout;  // tiles::Layout: iq2_xxs, q2_k or q4_k
};

// y[pair[i]] = down act[i].
struct GroupedDownArgs {
    const uint8_t* tiles;  // as in DownArgs
    uint64_t expert_bytes;
    const int32_t *first, *pair;
    const uint16_t* act;  // (n_pairs, n_ff)
    float* y;             // (n_pairs, n_out)
    uint32_t n_experts, n_ff, n_out;
    uint32_t layout;  // tiles::Layout: q2_k or q4_k
};

// y[r] = sum of the slots' rows in slot order, + shared[r].
struct CombineArgs {
    const float* slots;   // (n, n_used, width)
    const float* shared;  // (n, width), or null
    float* y;             // (n, width)
    uint32_t n, n_used, width;
};

// ---- repacking

struct RepackArgs {
    const uint8_t* from;  // stack of matrices as in the file
    uint8_t* to;
    uint64_t from_bytes, to_bytes;  // from one matrix of the stack to the next
    uint32_t stack, n_out, n_in;
    uint32_t tile_step, tile_first;  // row tile t of the matrix is row tile t * step + first of the result
    uint32_t layout;
};

}  // namespace ds4::gpu
