#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Backend::attention.
class WindowAttention {
  public:
    explicit WindowAttention(ThreadPool& pool) : pool_(pool) {}

    void run(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
             const Selection& selection, Rows q, Rows kv, Rows out);

  private:
    ThreadPool& pool_;
    Scratch<float> keys_;  // one decoded block per thread
};

// Backend::store_window.
void store_window(ThreadPool& pool, const BatchRows& batch, std::span<const LayerHistory> history, Rows kv);

}  // namespace ds4::cpu
