#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ds4/token.h"
#include "quant/format.h"
#include "quant/kv_rows.h"

// The vocabulary that the model and every backend share: views into backend memory. A view owns nothing,
// and on a device with its own memory only that device may follow its pointers.
namespace ds4 {

// A dense row-major block of f32 activations.
struct Rows {
    float* data = nullptr;  // (n, width)
    std::int64_t n = 0;
    std::int64_t width = 0;

    float* row(std::int64_t i) const { return data + i * width; }
    Rows slice(std::int64_t first, std::int64_t count) const { return {row(first), count, width}; }
    bool operator==(const Rows&) const = default;
};

// A weight matrix, or a stack of equally shaped ones, in its stored format: y[o] = sum_i w[o][i] x[i].
struct Matrix {
    const std::byte* data = nullptr;  // (stack, n_out, n_in) in blocks of `type`, as in the file
    quant::Type type = quant::Type::f32;
    std::int64_t n_in = 0;
    std::int64_t n_out = 0;
    std::int64_t stack = 1;
    std::size_t row_bytes = 0;
    // The same weights in the order in which a device multiplies them, which only that device knows; `data`
    // may then be null. Null: it has made no such form.
    const std::byte* tiles = nullptr;
    std::uint32_t tile_step = 1;  // 2: gate and up lie interleaved (Backend::place_experts)

    const std::byte* row(std::int64_t o) const { return data + static_cast<std::size_t>(o) * row_bytes; }
    Matrix member(std::int64_t s) const {
        return {row(s * n_out), type, n_in, n_out, 1, row_bytes, nullptr, 1};
    }
    explicit operator bool() const { return data != nullptr || tiles != nullptr; }
    bool operator==(const Matrix&) const = default;
};

// A small parameter vector (norms, biases, sinks), always f32.
struct Vector {
    const float* data = nullptr;
    std::int64_t n = 0;

    explicit operator bool() const { return data != nullptr; }
    bool operator==(const Vector&) const = default;
};

// Stored rows of a list that grows in equal pages, so that appending moves nothing (design.md, idea 3). A
// page holds the rows of several lists, each from its own offset on.
struct PagedRows {
    std::byte* const* pages = nullptr;
    std::size_t offset = 0;  // bytes, of the list in each page
    int log2_rows = 0;       // of the rows per page
    quant::KvRowFormat format;

    std::byte* row(std::int64_t i) const {
        const std::int64_t in_page = i & ((std::int64_t{1} << log2_rows) - 1);
        return pages[i >> log2_rows] + offset + static_cast<std::size_t>(in_page) * format.bytes;
    }
};

}  // namespace ds4
