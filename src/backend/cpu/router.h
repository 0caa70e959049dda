#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Backend::route. Affinities are computed in double, so that the selection is the reference's to the bit.
class ExpertRouter {
  public:
    explicit ExpertRouter(ThreadPool& pool) : pool_(pool) {}

    void run(const Router& router, std::span<const TokenId> tokens, Rows logits, const Routing& out);

  private:
    ThreadPool& pool_;
    Scratch<double> affinity_;  // one row per thread
    Scratch<float> key_;        // one row per thread
};

}  // namespace ds4::cpu
