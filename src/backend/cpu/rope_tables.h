#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Fills `table` (2 * rope.n_dims) for one position: for pair i the factors (cos, cos) at 2 i and (-sin, sin)
// at n_dims + 2 i, of the angle formed in f32 as in the released code (model.md 5, D1). Sine and cosine are
// taken in double, which reduces large angles exactly.
void fill_rope_table(const Rope& rope, std::int32_t position, float* table);

// The tables of a step's rows. Layers share frequencies, so two sets of tables serve a whole step.
class RopeTables {
  public:
    explicit RopeTables(ThreadPool& pool) : pool_(pool) {}

    // (positions, 2 * n_dims); valid until the next but one call.
    const float* get(const Rope& rope, std::span<const std::int32_t> positions);

  private:
    struct Tables {
        std::vector<float> frequency;
        std::vector<std::int32_t> positions;
        std::vector<float> values;

        bool fit(const Rope& rope, std::span<const std::int32_t> at) const;
    };

    ThreadPool& pool_;
    Tables tables_[2];
    int last_ = 0;  // used
};

}  // namespace ds4::cpu
