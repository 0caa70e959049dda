#pragma once

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// The hyper-connections, model.md 4.2.
class Streams {
  public:
    Streams(ThreadPool& pool, Matmul& matmul) : pool_(pool), matmul_(matmul) {}

    // Backend::hc_collapse; without post and comb (n_out == M), Backend::hc_head.
    void collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb);
    // Backend::hc_expand
    void expand(Rows y, Rows post, Rows comb, Rows streams);

  private:
    ThreadPool& pool_;
    Matmul& matmul_;
    Scratch<float> mix_;
};

}  // namespace ds4::cpu
