#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "backend/tensor.h"

// The operations the model is made of (model.md 4-12). src/model/forward.cpp calls nothing else, so a backend
// is complete when it has these, and correct when each agrees with backend/reference on random shapes.
//
// Every operation works on the rows of a batch, and a row's result depends on nothing but that row's inputs
// and its session's state: not on its neighbours, the number of rows, or the number of threads. All
// arithmetic accumulates in f32 or wider in an order fixed per row.
namespace ds4 {

// A session's rows in a batch: consecutive positions, consecutive batch rows.
struct Segment {
    std::int64_t first_row;
    std::int64_t n_rows;
    std::int64_t start;  // position of the first row
    // Tokens of a prompt, as opposed to such as were generated. See Backend::begin_rows.
    bool is_prompt = false;
};

// Who the rows of a batch are. Host memory; lives for the whole step.
struct BatchRows {
    std::span<const TokenId> tokens;          // (n_rows)
    std::span<const std::int32_t> positions;  // (n_rows)
    std::span<const Segment> segments;        // in row order, covering every row once

    std::int64_t n_rows() const { return static_cast<std::int64_t>(tokens.size()); }
};

// Frequencies of one layer kind, model.md 5: theta_i = float(position) * frequency[i] in f32.
struct Rope {
    const float* frequency = nullptr;  // (n_dims / 2), host memory
    std::int64_t n_dims = 0;           // rotated dims at the end of each head, in interleaved pairs
    bool operator==(const Rope&) const = default;
};

// Hyper-connection parameters of one site, model.md 4.2. M = streams, E = hidden width.
struct HyperConnection {
    Matrix fn;     // (M * (2 + M), M * E); at the head (M, M * E)
    Vector base;   // (M * (2 + M)); at the head (M)
    Vector scale;  // (3: pre, post, comb); at the head (1)
    std::int64_t n_streams = 0;
    int sinkhorn_iterations = 0;
    float eps = 0;      // hc_eps
    float rms_eps = 0;  // of the unweighted norm over all streams
    bool operator==(const HyperConnection&) const = default;
};

// The frontier of one compressor, model.md 7.1: per window slot the projected value and its pooling score
// (the score includes ape). ratio 4: slots 0..3 hold the last closed window, 4..7 the open one, width = 2 *
// dim. ratio 128: slots 0..127 the open window, width = dim. Slots without a token: value 0, score -infinity.
struct Frontier {
    float* value = nullptr;  // (slots, width)
    float* score = nullptr;  // (slots, width)
};

// One session's history in one layer, as the operations see it. Pages for the rows that the batch will append
// are already there.
struct LayerHistory {
    float* window = nullptr;  // (window_rows, D) ring of raw rows: position p in slot p % window_rows
    std::int64_t window_rows = 0;
    PagedRows compressed;         // (positions / ratio, D); unused when ratio = 0
    PagedRows indexer;            // (positions / 4, ID); ratio 4 only
    Frontier compressor;          // ratio != 0
    Frontier indexer_compressor;  // ratio 4 only
};

// Parameters of one compressor, model.md 7.
struct Compressor {
    std::int64_t ratio = 0;  // 4 or 128
    std::int64_t dim = 0;    // D or ID
    Matrix ape;              // (ratio, c * dim), added to the scores
    Vector norm;             // (dim)
    Rope rope;
    float rms_eps = 0;
    enum class Finish { fp8, hadamard_fp4 } finish = Finish::fp8;  // the row's round trip, model.md 9
    bool rounding = true;  // false leaves the round trip out (tests, model.md D3)
    bool operator==(const Compressor&) const = default;
};

// Which compressed rows each query sees: all that exist, or a list.
struct Selection {
    std::int32_t* rows = nullptr;   // (n_rows, capacity), ascending; nullptr: every row that exists
    std::int32_t* count = nullptr;  // (n_rows)
    std::int64_t capacity = 0;
    bool operator==(const Selection&) const = default;
};

struct Attention {
    std::int64_t n_heads = 0;
    std::int64_t head_dim = 0;
    std::int64_t window = 0;  // raw rows a query sees, itself included
    std::int64_t ratio = 0;   // 0: no compressed rows
    Vector sinks;             // (n_heads), raw logits
    bool operator==(const Attention&) const = default;
};

// Routing of tokens to experts, model.md 10.
struct Router {
    std::int64_t n_used = 0;
    float weight_scale = 1;              // routed_scaling_factor
    bool normalise = true;               // norm_topk_prob
    Vector bias;                         // (n_experts), or absent in hash layers
    const std::int32_t* hash = nullptr;  // (vocab, n_used); hash layers only
    bool operator==(const Router&) const = default;
};

struct Routing {
    std::int32_t* expert = nullptr;  // (n_rows, n_used)
    float* weight = nullptr;         // (n_rows, n_used)
    std::int64_t n_used = 0;
    bool operator==(const Routing&) const = default;
};

// The routed experts of a layer, or its shared expert (a stack of one).
struct Experts {
    Matrix gate, up;  // stack of (F, E)
    Matrix down;      // stack of (E, F)
    float clamp = 0;  // swiglu_limit; <= 1e-6 means none
    bool operator==(const Experts&) const = default;
};

struct DeviceMemory {
    std::size_t total = 0;  // bytes
    std::size_t free = 0;   // bytes
};

class Backend {
  public:
    virtual ~Backend() = default;

    // One line for people, e.g. "cpu, 2 threads, AVX3".
    virtual std::string description() const = 0;

    // ---- memory

    // Of a device with memory of its own; nothing if it is the host's.
    virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }
    // Rows of a prompt that make a good step: with fewer it is slower, with more hardly faster.
    virtual std::int64_t good_step_rows() const { return 512; }
    // Zeroed memory for activations and state, 64-byte aligned. Throws std::bad_alloc, or DeviceMemoryError
    // on a device with memory of its own.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;
    // Starts every operation asked for so far, so that one for which there is no room throws here at the
    // latest.
    virtual void flush() {}
    virtual void upload(void* to, const void* host, std::size_t bytes) = 0;
    virtual void download(void* host, const void* from, std::size_t bytes) = 0;
    // Puts a matrix whose data lie in host memory (the mapped file) where this backend wants them, in the
    // form it wants for that use; the CPU uses them in place, so they must outlive it. What is returned goes
    // with the backend. Throws as allocate() does.
    enum class MatrixUse : std::uint8_t {
        product,  // operand of matmul
        rows,     // single rows are read: embedding
        added,    // single values are added to others, often: ape
        mixing,   // fn of hyper-connections
    };
    virtual Matrix place(const Matrix& host, MatrixUse use) = 0;
    // An operand of grouped_matmul with this many groups.
    virtual Matrix place_grouped(const Matrix& host, std::int64_t /*n_groups*/) {
        return place(host, MatrixUse::product);
    }
    // Operands of routed_experts, or of gated_matmul and mixture: the three belong together, so that a device
    // may interleave gate and up.
    virtual Experts place_experts(const Experts& host) {
        return {place(host.gate, MatrixUse::product), place(host.up, MatrixUse::product),
                place(host.down, MatrixUse::product), host.clamp};
    }

    // ---- rows

    // What the rows of the operations from here on are: those of a batch of these segments, or as many rows
    // for each of its rows; without segments, and at first, generated ones. A backend may multiply the rows
    // of prompts in another order than generated ones; which of the two a row is decides, never its company.
    virtual void begin_rows(std::span<const Segment> /*segments*/) {}

    // ---- dense

    // y[r] = w x[r]. x (n, n_in), y (n, n_out).
    virtual void matmul(const Matrix& w, Rows x, Rows y) = 0;
    // Block-diagonal product: output o uses input group o / (n_out / n_groups). x (n, n_groups * n_in),
    // y (n, n_out). model.md 6, wo_a
    virtual void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) = 0;
    // y = w * x / rms(x); w absent: unweighted. Each row of width w.n (or `width` if absent) is normed on its
    // own, so a row of x may hold several. x and y may be the same. model.md 4.1
    virtual void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) = 0;
    // y = w norm(x) of each product; x is left as it is or normed, as the backend likes. norm (x.width)
    struct Product {
        Matrix w;
        Rows y;
    };
    virtual void norm_matmul(Rows x, const Vector& norm, float eps, std::span<const Product> products) {
        rms_norm(x, norm, x.width, eps, x);
        for (const Product& p : products) matmul(p.w, x, p.y);
    }
    // y = w_b (w_a x), w_a in groups as grouped_matmul has it; `between` (n, w_a.n_out) is scratch.
    virtual void low_rank_matmul(const Matrix& w_a, std::int64_t n_groups, const Matrix& w_b, Rows x,
                                 Rows between, Rows y) {
        grouped_matmul(w_a, n_groups, x, between);
        matmul(w_b, between, y);
    }
    // Adds x (n, w) to each w-wide slice of y (n, s * w).
    virtual void add(Rows x, Rows y) = 0;
    // best[r]: where the first of row r's largest values is; 0 if all are -infinity or NaN. best (n)
    virtual void arg_max(Rows x, std::int32_t* best) = 0;

    // ---- streams (model.md 4.2). streams (n, M * E), stream-major

    // Every stream of row r becomes the embedding of token r. table (vocab, E)
    virtual void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
                       Rows streams) = 0;
    // x (n, E), post (n, M), comb (n, M * M)
    virtual void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) = 0;
    // streams[k] = post[k] * y + sum_j comb[j][k] * streams[j], in place
    virtual void hc_expand(Rows y, Rows post, Rows comb, Rows streams) = 0;
    virtual void hc_head(const HyperConnection& hc, Rows streams, Rows x) = 0;

    // ---- attention (model.md 5-8)

    // Rotates the last rope.n_dims of each head of `head_dim` by the row's position; inverse turns back.
    virtual void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim,
                      bool inverse, Rows x) = 0;
    // FP8 round trip of dims [0, width - n_tail) of each row, model.md 9.1; F16 round trip of the others if
    // asked for.
    virtual void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) = 0;
    // Hadamard transform and FP4 round trip of each head of `head_dim`. model.md 9.2
    virtual void round_hadamard_fp4(Rows x, std::int64_t head_dim) = 0;
    // Feeds the rows of every segment to its compressor: closes windows into `rows` of the session and leaves
    // the frontier for the next call. value, score (n, c * dim), score without ape. history[s] belongs to
    // segment s; `of_indexer` picks its indexer half.
    virtual void compress(const Compressor& compressor, const BatchRows& batch,
                          std::span<const LayerHistory> history, bool of_indexer, Rows value, Rows score) = 0;
    // The top `selection.capacity` indexer rows of each query, or all while there are no more. Ties go to
    // the lower row. q (n, IH * ID), on the FP4 grid where the rows are stored as FP4; weight (n, IH).
    // model.md 8
    virtual void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q,
                             Rows weight, std::int64_t head_dim, const Selection& selection) = 0;
    // Softmax attention with sinks over the window and the selected compressed rows; keys are values.
    // q, out (n, H * D); kv (n, D): raw rows of this batch, not yet in the window. model.md 6
    virtual void attention(const Attention& attention, const BatchRows& batch,
                           std::span<const LayerHistory> history, const Selection& selection, Rows q, Rows kv,
                           Rows out) = 0;
    // Puts the last window_rows rows of each segment into its session's ring. kv (n, D)
    virtual void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) = 0;

    // ---- experts (model.md 10)

    // logits (n, X) -> the n_used experts of each row with their weights.
    virtual void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
                       const Routing& out) = 0;
    // y[r] = sum over slots k of weight[r][k] * expert[r][k](x[r]), in slot order. x, y (n, E)
    virtual void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) = 0;
    // gate = silu(min(gate, clamp)) * clamp(up, -clamp, clamp), in place. (n, F)
    virtual void swiglu(Rows gate, Rows up, float clamp) = 0;
    // act = swiglu(gate x, up x) of a shared expert, for `mixture` only: in what form is the backend's
    // business. x (n, E); act, scratch (n, F)
    virtual void gated_matmul(const Experts& shared, Rows x, Rows scratch, Rows act) {
        matmul(shared.gate, x, act);
        matmul(shared.up, x, scratch);
        swiglu(act, scratch, shared.clamp);
    }
    // y = routed_experts(x), then + the shared expert's down act. x, scratch, y (n, E)
    virtual void mixture(const Experts& routed, const Routing& routing, Rows x, const Experts& shared,
                         Rows act, Rows scratch, Rows y) {
        routed_experts(routed, routing, x, y);
        matmul(shared.down, act, scratch);
        add(scratch, y);
    }
};

// A block of backend memory that frees itself.
class BackendMemory {
  public:
    BackendMemory(Backend& backend, std::size_t bytes)
        : backend_(&backend), memory_(backend.allocate(bytes)) {}
    BackendMemory(BackendMemory&& other) noexcept
        : backend_(other.backend_), memory_(std::exchange(other.memory_, nullptr)) {}
    BackendMemory& operator=(BackendMemory&& other) noexcept {
        std::swap(backend_, other.backend_);
        std::swap(memory_, other.memory_);
        return *this;
    }
    BackendMemory(const BackendMemory&) = delete;
    BackendMemory& operator=(const BackendMemory&) = delete;
    ~BackendMemory() {
        if (memory_ != nullptr) backend_->release(memory_);
    }

    void* get() const { return memory_; }

  private:
    Backend* backend_;
    void* memory_;
};

}  // namespace ds4
