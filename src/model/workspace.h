#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"

namespace ds4 {

// Activations of one step, allocated once for the largest batch: a step allocates nothing.
class Workspace {
  public:
    Workspace(const Config& config, Backend& backend, std::int64_t max_rows);

    std::int64_t max_rows() const { return max_rows_; }
    // Backend memory that a workspace of this size takes.
    static std::size_t bytes_for(const Config& config, std::int64_t max_rows);

    // All (max_rows, width) unless said otherwise. `take` gives the part that a batch of n rows uses.
    Rows streams;                  // (n, M * E)
    Rows x;                        // (n, E) what a block reads
    Rows y;                        // (n, E) what a block writes
    Rows post, comb;               // (n, M), (n, M * M)
    Rows q_low;                    // (n, Q)
    Rows q;                        // (n, H * D)
    Rows kv;                       // (n, D)
    Rows heads;                    // (n, H * D) attention output per head
    Rows out_low;                  // (n, G * O)
    Rows pooled_value;             // (n, 2 * D) compressor projections
    Rows pooled_score;             // (n, 2 * D)
    Rows index_value;              // (n, 2 * ID) those of the indexer
    Rows index_score;              // (n, 2 * ID)
    Rows index_q;                  // (n, IH * ID)
    Rows index_weight;             // (n, IH)
    Rows router_logits;            // (n, X)
    Rows gate, up;                 // (n, F) shared expert
    Rows shared;                   // (n, E)
    Selection selection;           // (n, TK)
    Routing routing;               // (n, K)
    Rows logits;                   // (kHeadRows, V)
    std::int32_t* best = nullptr;  // (kHeadRows) tokens

    // Rows of logits computed at a time, so that a whole prompt's logits need no room for all of them.
    static constexpr std::int64_t kHeadRows = 16;

    static Rows take(Rows buffer, std::int64_t n) { return buffer.slice(0, n); }
    static Rows take(Rows buffer, std::int64_t n, std::int64_t width) { return {buffer.data, n, width}; }

  private:
    void* allocate(std::int64_t n, std::size_t item_bytes);

    Backend& backend_;
    std::int64_t max_rows_;
    std::vector<BackendMemory> blocks_;
};

}  // namespace ds4
