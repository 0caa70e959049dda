#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/dot.h"
#include "backend/cpu/memory.h"
#include "backend/tensor.h"
#include "base/thread_pool.h"

// Matrix products on multiply_rows.
namespace ds4::cpu {

// The rows of x as multiply_rows takes them with weights of `type`: in `memory`, or f32 rows as they lie
// there.
Activations prepare_rows(ThreadPool& pool, quant::Type type, Rows x, Scratch<std::byte>& memory);

// The products of weight rows [begin, end) with all of x: w.row(o) . x[r] goes to y[r * y_stride + o -
// begin].
void multiply(const Matrix& w, std::int64_t begin, std::int64_t end, const Activations& x, float* y,
              std::int64_t y_stride);

class Matmul {
  public:
    explicit Matmul(ThreadPool& pool) : pool_(pool) {}

    // Backend::grouped_matmul; one group is the plain product.
    void run(const Matrix& w, std::int64_t n_groups, Rows x, Rows y);

  private:
    ThreadPool& pool_;
    Scratch<std::byte> prepared_;
};

}  // namespace ds4::cpu
