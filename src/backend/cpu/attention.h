#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/attention_kernel.h"
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
    Scratch<float> rooms_;          // per thread: a decoded block, queries, sums
    Scratch<SoftmaxState> states_;  // per thread and head
};

// Backend::store_window.
void store_window(ThreadPool& pool, const BatchRows& batch, std::span<const LayerHistory> history, Rows kv);

}  // namespace ds4::cpu
