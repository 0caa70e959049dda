#pragma once

#include <cstdint>
#include <optional>

#include "backend/gpu/tiles.h"
#include "backend/tensor.h"

// Which matrices have kernels for tiles (matrix_args.h), and how large they are in that form.
namespace ds4::gpu {

// The layout of a weight format in tiles; nothing: it has none.
inline std::optional<tiles::Layout> tile_layout(quant::Type type) {
    switch (type) {
        case quant::Type::q8_0:
            return tiles::Layout::q8_0;
        case quant::Type::f16:
            return tiles::Layout::f16;
        case quant::Type::iq2_xxs:
            return tiles::Layout::iq2_xxs;
        case quant::Type::q2_k:
            return tiles::Layout::q2_k;
        case quant::Type::q4_k:
            return tiles::Layout::q4_k;
        default:
            return std::nullopt;
    }
}

// Bytes of one (n_out, n_in) matrix.
inline std::size_t tile_bytes(tiles::Layout layout, std::int64_t n_in, std::int64_t n_out) {
    const tiles::Shape shape = tiles::shape(layout);
    const auto row_tiles = static_cast<std::size_t>((n_out + tiles::kRows - 1) / tiles::kRows);
    const auto input_tiles = static_cast<std::size_t>((n_in + shape.inputs - 1) / shape.inputs);
    return row_tiles * input_tiles * shape.bytes;
}

}  // namespace ds4::gpu
