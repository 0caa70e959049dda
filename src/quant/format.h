#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// The storage formats of weights (model.md 14): ids, sizes, decoders and encoders in one registry.
namespace ds4::quant {

// ggml type ids, as they stand in GGUF tensor infos (model.md 2).
enum class Type : std::uint32_t {
    f32 = 0,
    f16 = 1,
    q8_0 = 8,
    q2_k = 10,
    q4_k = 12,
    iq2_xxs = 16,
    i32 = 26,
    bf16 = 30,
    mxfp4 = 39,
};

struct Format {
    Type type;
    std::string_view name;    // "Q8_0", as ggml spells it
    std::size_t block_elems;  // values per block
    std::size_t block_bytes;  // bytes per block
    // Decodes n values (a multiple of block_elems) from n / block_elems blocks. Exact in f32; never fails.
    // nullptr for I32, which is data, not weights.
    void (*decode)(const std::byte* blocks, float* values, std::size_t n);
    // Encodes n values (a multiple of block_elems). nullptr while there is no encoder for the format.
    void (*encode)(const float* values, std::byte* blocks, std::size_t n);
    // Index of the first block whose scale is NaN or infinite, or n_blocks. nullptr means: cannot be.
    std::size_t (*find_bad_scale)(const std::byte* blocks, std::size_t n_blocks);
};

// Every known format, ordered by id.
std::span<const Format> formats();

// nullptr if the id is unknown.
const Format* find_format(std::uint32_t ggml_type_id);

// The format of a known type; never fails for values of the enum.
const Format& format(Type type);

// Bytes of a row of n values; n must be a multiple of block_elems.
inline std::size_t row_bytes(const Format& f, std::size_t n) {
    return n / f.block_elems * f.block_bytes;
}

}  // namespace ds4::quant
