#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/forward.h"

namespace ds4 {

// The next-token-prediction block (model.md 12): from the trunk's last streams at position p and token p + 1
// it predicts token p + 2. Embedding and output matrix are the trunk's. Not thread-safe.
class MtpForward {
  public:
    // The references must outlive it.
    MtpForward(Backend& backend, const Config& config, const MtpWeights& mtp, const Weights& trunk,
               const ForwardOptions& options);

    // A state for the block: one layer of ratio 0. This must outlive it.
    std::unique_ptr<KvState> new_state() const;

    // batch.tokens[r] is the token after the position of row r; trunk_streams (n_rows, M * E) are the trunk's
    // streams at these positions.
    void run(const BatchRows& batch, std::span<KvState* const> states, Rows trunk_streams);

    // (n_rows, M * E): what a further recursive step takes for the trunk's streams.
    Rows streams() const { return Workspace::take(work_.streams, n_rows_); }

    // Logits of rows [first, first + n) -> host (n, V).
    void logits(std::int64_t first, std::int64_t n, float* host);

  private:
    Backend& backend_;
    const Config& config_;
    const MtpWeights& mtp_;
    const Weights& trunk_;
    KvLayout layout_;
    Block block_;
    Workspace work_;
    BackendMemory normed_memory_;
    Rows normed_;  // (max_rows, M * E)
    std::vector<LayerHistory> history_;
    std::int64_t n_rows_ = 0;
};

}  // namespace ds4
