#include "convert/source_rows.h"

#include <cstring>

#include "ds4/error.h"
#include "gguf/printable.h"
#include "quant/checkpoint_formats.h"
#include "quant/format.h"

namespace ds4::convert {
namespace {

using safetensors::Dtype;

[[noreturn]] void fail_tensor(const safetensors::Checkpoint& checkpoint, const safetensors::Tensor& tensor,
                              const std::string& what) {
    throw ModelError(checkpoint.path().string() + ": tensor " + printable(tensor.name) + " " + what);
}

// The tensor `x.scale` beside `x.weight`; nullptr if there is none.
const safetensors::Tensor* find_scale(const safetensors::Checkpoint& checkpoint, const std::string& name) {
    constexpr std::string_view kWeight = ".weight";
    if (!name.ends_with(kWeight)) return nullptr;
    return checkpoint.find(name.substr(0, name.size() - kWeight.size()) + ".scale");
}

quant::Type float_type(Dtype dtype) {
    if (dtype == Dtype::f16) return quant::Type::f16;
    if (dtype == Dtype::bf16) return quant::Type::bf16;
    return quant::Type::f32;
}

std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
    return (a + b - 1) / b;
}

}  // namespace

SourceRows::SourceRows(const safetensors::Checkpoint& checkpoint, const safetensors::Tensor& tensor)
    : checkpoint_(checkpoint), tensor_(tensor), scale_(find_scale(checkpoint, tensor.name)) {
    const auto& shape = tensor.shape;
    if (shape.empty() || shape.size() > 2) fail("is neither a vector nor a matrix");
    if (tensor.elements() == 0) fail("is empty");
    if (shape.size() == 2) n_rows_ = shape[0];
    n_cols_ = shape.back();
    switch (tensor.dtype) {
        case Dtype::f32:
        case Dtype::f16:
        case Dtype::bf16:
            check_no_scale();
            break;
        case Dtype::f8_e4m3:
            check_scale(divide_up(n_rows_, quant::kFp8Tile), divide_up(n_cols_, quant::kFp8Tile));
            break;
        case Dtype::i8:
            n_cols_ *= 2;  // two values to a byte
            if (n_cols_ % quant::kFp4ScaleBlock != 0) {
                fail("has FP4 rows of " + std::to_string(n_cols_) + ", which are not whole blocks of 32");
            }
            check_scale(n_rows_, n_cols_ / quant::kFp4ScaleBlock);
            break;
        default:
            fail("has dtype " + std::string(dtype_name(tensor.dtype)) + ", which holds no weights");
    }
}

void SourceRows::fail(const std::string& what) const {
    fail_tensor(checkpoint_, tensor_, what);
}

void SourceRows::check_no_scale() const {
    if (scale_ == nullptr) return;
    fail("is " + std::string(dtype_name(tensor_.dtype)) + " and has a .scale; only FP8 and FP4 are scaled");
}

void SourceRows::check_scale(std::uint64_t rows, std::uint64_t cols) const {
    if (scale_ == nullptr)
        fail("is " + std::string(dtype_name(tensor_.dtype)) + " and has no .scale beside it");
    if (scale_->dtype == Dtype::f8_e8m0 && scale_->shape == std::vector<std::uint64_t>{rows, cols}) return;
    fail("needs a .scale of F8_E8M0 [" + std::to_string(rows) + ", " + std::to_string(cols) + "]");
}

void SourceRows::decode(std::uint64_t begin, std::uint64_t end, float* values) const {
    const std::byte* data = tensor_.data.data();
    if (tensor_.dtype == Dtype::f8_e4m3) {
        quant::decode_fp8_rows({data, scale_->data.data(), n_rows_, n_cols_}, begin, end, values);
    } else if (tensor_.dtype == Dtype::i8) {
        quant::decode_fp4_rows({data, scale_->data.data(), n_rows_, n_cols_}, begin, end, values);
    } else {
        const quant::Format& format = quant::format(float_type(tensor_.dtype));
        format.decode(data + begin * n_cols_ * format.block_bytes, values, (end - begin) * n_cols_);
    }
}

void SourceRows::release(std::uint64_t begin, std::uint64_t end) const {
    const std::uint64_t row_bytes = tensor_.data.size() / n_rows_;
    checkpoint_.release(tensor_, tensor_.data.subspan(begin * row_bytes, (end - begin) * row_bytes));
    if (scale_ != nullptr && end == n_rows_) checkpoint_.release(*scale_, scale_->data);
}

void check_indices(const safetensors::Checkpoint& checkpoint, const safetensors::Tensor& tensor) {
    if (tensor.dtype == Dtype::i64 || tensor.dtype == Dtype::i32) return;
    fail_tensor(checkpoint, tensor,
                "has dtype " + std::string(dtype_name(tensor.dtype)) + ", must be I32 or I64");
}

std::vector<std::int32_t> decode_indices(const safetensors::Checkpoint& checkpoint,
                                         const safetensors::Tensor& tensor, std::int64_t limit) {
    std::vector<std::int32_t> out(tensor.elements());
    for (std::size_t i = 0; i < out.size(); ++i) {
        std::int64_t value = 0;
        if (tensor.dtype == Dtype::i64) {
            std::memcpy(&value, tensor.data.data() + i * sizeof value, sizeof value);
        } else {
            std::int32_t narrow = 0;
            std::memcpy(&narrow, tensor.data.data() + i * sizeof narrow, sizeof narrow);
            value = narrow;
        }
        if (value < 0 || value >= limit) {
            fail_tensor(checkpoint, tensor,
                        "has the entry " + std::to_string(value) + " at " + std::to_string(i) +
                            ", it must be 0 to " + std::to_string(limit - 1));
        }
        out[i] = static_cast<std::int32_t>(value);
    }
    return out;
}

}  // namespace ds4::convert
