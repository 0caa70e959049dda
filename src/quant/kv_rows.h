#pragma once

#include <cstddef>
#include <cstdint>

// How rows of the KV state are stored (model.md 9, 13). A row that went through its simulated rounding comes
// back from the packed form bit for bit; only the rotated dims at the end of attention rows, which nothing
// rounds, become F16 there: three bits more than the reference's BF16, at the same size.
namespace ds4::quant {

enum class KvFormat : std::uint8_t {
    packed,  // FP8 codes and F16 tail, or FP4 codes, with their power-of-two scales
    f16,
    f32,
};

struct KvRowFormat {
    enum class Code : std::uint8_t { fp8, fp4, f16, f32 };

    Code code = Code::f32;
    std::int64_t width = 0;   // values of a row
    std::int64_t n_tail = 0;  // of them at the end as F16 (fp8 only)
    std::size_t bytes = 0;    // of a stored row

    // Scales (one byte per block of 64), codes (one byte each), tail. 583 bytes for width 512 and tail 64;
    // width - n_tail is a multiple of 64.
    static KvRowFormat attention(KvFormat format, std::int64_t width, std::int64_t n_tail);
    // Scales (one byte per block of 32), codes (two per byte, the lower half first). 68 bytes for width 128;
    // width is a multiple of 32.
    static KvRowFormat indexer(KvFormat format, std::int64_t width);
};

// One row. For fp8 and fp4 the values must lie on the grid of rounding.h under some scale; a block with a NaN
// or an infinity comes back as NaN throughout.
void encode_kv_row(const KvRowFormat& format, const float* values, std::byte* row);
void decode_kv_row(const KvRowFormat& format, const std::byte* row, float* values);

// F16 round trip in place.
void round_f16(float* x, std::size_t n);

}  // namespace ds4::quant
