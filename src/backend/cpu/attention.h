#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

struct AttentionRoom;

// Backend::attention.
class WindowAttention {
  public:
    explicit WindowAttention(ThreadPool& pool) : pool_(pool) {}

    void run(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
             const Selection& selection, Rows q, Rows kv, Rows out);

  private:
    struct Call;

    AttentionRoom room(const Call& call, int member);
    void run_by_heads(const Call& call);
    void run_by_keys(const Call& call);

    ThreadPool& pool_;
    Scratch<float> rooms_;          // per thread: a decoded block, queries, sums
    Scratch<SoftmaxState> states_;  // per thread and head
    // Where keys are divided between threads: (row, block of keys), numbered through.
    Scratch<std::int64_t> first_block_;  // of each row
    Scratch<float> block_sums_;          // per block and head, padded rows
    Scratch<SoftmaxState> block_states_;
};

// Backend::store_window.
void store_window(ThreadPool& pool, const BatchRows& batch, std::span<const LayerHistory> history, Rows kv);

}  // namespace ds4::cpu
