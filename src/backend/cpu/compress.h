#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Backend::compress, model.md 7. The windows that a batch closes are emitted in parallel; then the frontiers
// move on.
class CompressorRows {
  public:
    explicit CompressorRows(ThreadPool& pool) : pool_(pool) {}

    void run(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
             bool of_indexer, Rows value, Rows score);

  private:
    struct Feed;

    Rows add_ape(const Compressor& compressor, const BatchRows& batch, Rows score);
    void emit_windows(const Feed& feed);

    ThreadPool& pool_;
    Scratch<float> score_;
    Scratch<std::int64_t> first_window_;
    Scratch<float> row_;           // per thread: the row of a window and its rope table
    Scratch<const float*> slots_;  // per thread: values and scores of a window's slots
};

}  // namespace ds4::cpu
