#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "backend/backend.h"
#include "backend/gpu/args.h"

// The operations of backend.h as the GPU backend records them: what was host memory in the call has become a
// pointer into the step table. lower*.cpp turns each into launches, and equal operations into equal launches.
namespace ds4::gpu {

// Not in args.h, which devices read that know no more than C++14.
inline bool operator==(const BatchArgs& a, const BatchArgs& b) {
    return a.segments == b.segments && a.history == b.history && a.row_segment == b.row_segment && a.n == b.n;
}

}  // namespace ds4::gpu

namespace ds4::gpu::ops {

struct Batch {
    BatchArgs args;
    std::int64_t n_segments = 0;
    std::int64_t max_segment_rows = 0;  // of the longest segment
    // At least the most tokens that a session has after the step; a power of two, so that steps of a growing
    // context are mostly the same launches.
    std::int64_t end = 0;
    bool index_rows_packed = false;  // as FP4, of all segments
    bool operator==(const Batch&) const = default;
};

// Rows of the batch from `first` on; a run from 0 on begins a new batch (Backend::begin_rows).
struct RowRun {
    std::int64_t first, n_rows;
    bool is_prompt;
    bool operator==(const RowRun&) const = default;
};

struct Matmul {
    Matrix w;
    std::int64_t n_groups;
    Rows x, y;
    Vector norm = {};  // of x on the way in, if there is one; x stays as it is
    float norm_eps = 0;
    bool operator==(const Matmul&) const = default;
};

struct RmsNorm {
    Rows x;
    Vector w;
    std::int64_t width;
    float eps;
    Rows y;
    bool operator==(const RmsNorm&) const = default;
};

struct Add {
    Rows x, y;
    bool operator==(const Add&) const = default;
};

struct Embed {
    Matrix table;
    const std::int32_t* tokens;  // (streams.n)
    std::int64_t n_streams;
    Rows streams;
    bool operator==(const Embed&) const = default;
};

struct HcExpand {
    Rows y, post, comb, streams;
    bool operator==(const HcExpand&) const = default;
};

// hc_collapse, and hc_head without post and comb.
struct HcCollapse {
    HyperConnection hc;
    Rows streams, x, post, comb;
    std::optional<RmsNorm> norm = std::nullopt;     // of x, in place
    std::optional<HcExpand> expand = std::nullopt;  // of the same streams, before
    bool operator==(const HcCollapse&) const = default;
};

struct Rope {
    Rows x;
    const std::int32_t* positions;  // (x.n)
    const float* frequency;         // (n_dims / 2)
    std::int64_t n_dims, head_dim;
    bool inverse;
    bool operator==(const Rope&) const = default;
};

struct RoundFp8 {
    Rows x;
    std::int64_t n_tail;
    bool tail_to_f16;
    bool operator==(const RoundFp8&) const = default;
};

// The three of the same rows, one after the other; norm.width is rope.head_dim.
struct NormRotate {
    RmsNorm norm;
    Rope rope;
    std::optional<RoundFp8> round;  // of rows of one head
    bool operator==(const NormRotate&) const = default;
};

struct RoundHadamardFp4 {
    Rows x;
    std::int64_t head_dim;
    bool operator==(const RoundHadamardFp4&) const = default;
};

// Both of the same rows.
struct RotateRound {
    Rope rope;
    RoundHadamardFp4 round;
    bool operator==(const RotateRound&) const = default;
};

struct Compress {
    Compressor compressor;
    const float* frequency;  // (compressor.rope.n_dims / 2)
    Batch batch;
    bool of_indexer;
    Rows value, score;
    bool operator==(const Compress&) const = default;
};

struct SelectRows {
    Batch batch;
    Rows q, weight;
    std::int64_t head_dim;
    Selection selection;
    bool operator==(const SelectRows&) const = default;
};

struct StoreWindow {
    Batch batch;
    Rows kv;
    bool operator==(const StoreWindow&) const = default;
};

struct Attend {
    Attention attention;
    Batch batch;
    Selection selection;
    Rows q, kv, out;
    std::optional<StoreWindow> store = std::nullopt;  // of kv, afterwards
    std::optional<Rope> rope = std::nullopt;          // of out
    bool operator==(const Attend&) const = default;
};

struct Route {
    Router router;
    const std::int32_t* tokens;  // (logits.n)
    Rows logits;
    Routing out;
    bool operator==(const Route&) const = default;
};

struct RoutedExperts {
    Experts experts;
    Routing routing;
    Rows x, y;
    bool operator==(const RoutedExperts&) const = default;
};

struct ArgMax {
    Rows x;
    std::int32_t* best;  // (x.n)
    bool operator==(const ArgMax&) const = default;
};

struct Swiglu {
    Rows gate, up;
    float clamp;
    bool operator==(const Swiglu&) const = default;
};

struct GatedMatmul {
    Experts shared;
    Rows x, scratch, act;
    bool operator==(const GatedMatmul&) const = default;
};

struct Mixture {
    Experts routed;
    Routing routing;
    Rows x;
    Experts shared;
    Rows act, scratch, y;
    std::optional<Route> route = std::nullopt;  // that fills `routing` first
    bool operator==(const Mixture&) const = default;
};

using Op = std::variant<RowRun, Matmul, RmsNorm, Add, Embed, HcCollapse, HcExpand, Rope, RoundFp8, NormRotate,
                        RoundHadamardFp4, RotateRound, Compress, SelectRows, Attend, StoreWindow, Route,
                        RoutedExperts, Swiglu, GatedMatmul, Mixture, ArgMax>;

}  // namespace ds4::gpu::ops
