#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gguf/safetensors.h"

namespace ds4::convert {

// A 1-D or 2-D tensor of a checkpoint as rows of f32, whatever it is stored in: F32, F16, BF16, FP8 E4M3 with
// a scale per 128 x 128 tile, FP4 with a scale per 32 values (model.md 14.7). A matrix is scaled exactly if a
// `.scale` stands beside its `.weight`.
class SourceRows {
  public:
    // `tensor` is one of the checkpoint, which must outlive this. Throws ModelError: neither vector nor
    // matrix, a dtype that holds no weights, a scale that is missing or has the wrong shape.
    SourceRows(const safetensors::Checkpoint& checkpoint, const safetensors::Tensor& tensor);

    std::uint64_t n_rows() const { return n_rows_; }
    std::uint64_t n_cols() const { return n_cols_; }
    // Rows [begin, end) -> values (end - begin, n_cols).
    void decode(std::uint64_t begin, std::uint64_t end, float* values) const;
    // These rows are not needed again: lets the kernel drop their pages.
    void release(std::uint64_t begin, std::uint64_t end) const;

  private:
    [[noreturn]] void fail(const std::string& what) const;
    void check_no_scale() const;
    void check_scale(std::uint64_t rows, std::uint64_t cols) const;

    const safetensors::Checkpoint& checkpoint_;
    const safetensors::Tensor& tensor_;
    const safetensors::Tensor* scale_;  // nullptr if there is none
    std::uint64_t n_rows_ = 1, n_cols_ = 0;
};

// Throws ModelError if the tensor is neither I32 nor I64.
void check_indices(const safetensors::Checkpoint& checkpoint, const safetensors::Tensor& tensor);
// The entries of such a tensor, all of [0, limit), as i32. Throws ModelError naming the first one outside.
std::vector<std::int32_t> decode_indices(const safetensors::Checkpoint& checkpoint,
                                         const safetensors::Tensor& tensor, std::int64_t limit);

}  // namespace ds4::convert
