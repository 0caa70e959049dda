#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/head.h"
#include "model/kv_state.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace ds4 {

struct ForwardOptions {
    std::int64_t max_rows = 512;  // tokens in one step
    // The simulated FP8/FP4 rounding of model.md 9. Off only to compare with implementations that lack it
    // (D3).
    bool rounding = true;
    // How compressed rows are stored. packed needs the rounding, and rounds the rotated dims of raw rows to
    // F16 as it does those of compressed ones.
    quant::KvFormat kv_format = quant::KvFormat::packed;
};

// One transformer block of any kind, run on the rows of a batch: what trunk and MTP block share.
class Block {
  public:
    Block(Backend& backend, const Config& config, const ForwardOptions& options);

    // Updates `streams` in place and the sessions' histories in this layer. model.md 4
    void run(const LayerWeights& layer, const BatchRows& batch, std::span<const LayerHistory> history,
             Workspace& work, Rows streams) const;

  private:
    void attention(const LayerWeights& layer, const BatchRows& batch, std::span<const LayerHistory> history,
                   Workspace& work, Rows x, Rows y) const;
    // What a compressor pools of a batch: (n, c * dim) each.
    struct Pooled {
        Rows value, score;
    };
    bool needs_scores(const BatchRows& batch) const;
    void project(const CompressorWeights& weights, Rows x, const Pooled& pooled) const;
    void compress(const CompressorWeights& weights, const BatchRows& batch,
                  std::span<const LayerHistory> history, bool of_indexer, std::int64_t ratio,
                  const Pooled& pooled) const;
    void moe(const MoeWeights& weights, const BatchRows& batch, Workspace& work, Rows x, Rows y) const;
    Rope rope(std::int64_t ratio) const;

    Backend& backend_;
    const Config& config_;
    const bool rounding_;
    const bool packs_rows_;
    std::vector<float> plain_frequencies_;       // (R / 2) ratio 0
    std::vector<float> compressed_frequencies_;  // (R / 2) ratio 4 and 128
};

// The model, written once over the backend's operations. Not thread-safe: one step at a time.
class Forward {
  public:
    // The references must outlive it.
    Forward(Backend& backend, const Config& config, const Weights& weights, const ForwardOptions& options);

    // Appends every segment's tokens to its state (states[i] belongs to batch.segments[i]; their n_tokens
    // must equal the segment's start). At most max_rows rows. Throws std::bad_alloc or
    // DeviceMemoryError before anything has changed; DeviceError, also for want of memory, in the middle.
    void run(const BatchRows& batch, std::span<KvState* const> states);

    // Streams after the last layer of the step's rows: (n_rows, M * E) in backend memory, until the next
    // run().
    Rows streams() const { return Workspace::take(work_.streams, n_rows_); }

    // Logits of rows [first, first + n) of the step -> host (n, V). model.md 11
    void logits(std::int64_t first, std::int64_t n, float* host);
    // Logits of any rows of the step, each to its place.
    void logits(std::span<const HeadRow> rows);

    // Called before each layer and once after the last with the streams (n_rows, M * E); for tests
    // and profiles.
    std::function<void(std::int64_t layer, Rows streams)> probe;

    std::int64_t max_rows() const { return work_.max_rows(); }
    const Workspace& workspace() const { return work_; }

  private:
    void run_layers(const BatchRows& batch, std::span<KvState* const> states);

    Backend& backend_;
    const Config& config_;
    const Weights& weights_;
    Block block_;
    Workspace work_;
    std::vector<LayerHistory> history_;  // of the layer in progress, one per segment
    std::int64_t n_rows_ = 0;
};

}  // namespace ds4
