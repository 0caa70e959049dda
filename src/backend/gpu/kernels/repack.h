#pragma once

#include "backend/gpu/dialect.h"
#include "backend/gpu/matrix_args.h"

namespace ds4::gpu::DS4_DIALECT {

// Grid: (row tiles, matrices of the stack); words of a row of tiles are dealt to the lanes.
DS4_KERNEL(repack, RepackArgs, NoShared) {
    const auto layout = static_cast<tiles::Layout>(a.layout);
    const tiles::Shape shape = tiles::shape(layout);
    const uint32_t words = shape.bytes / 4, input_tiles = tiles::divide_up(a.n_in, shape.inputs);
    const tiles::Source source = {a.from + t.group_y * a.from_bytes, a.n_out, a.n_in};
    DS4_GLOBAL uint8_t* to = a.to + t.group_y * a.to_bytes;
    const uint64_t first =
        (static_cast<uint64_t>(t.group) * a.tile_step + a.tile_first) * input_tiles * words;
    for (uint32_t i = t.lane; i < input_tiles * words; i += kSimdWidth) {
        store_u32(to + 4 * (first + i), tiles::word(layout, source, t.group, i / words, i % words));
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
