#pragma once

#include "backend/gpu/args.h"
#include "backend/gpu/kernels/rounding.h"

// Stored rows of the KV state (quant/kv_rows.h): the one place that knows their form. Rows stand at any
// address.
namespace ds4::gpu::DS4_DIALECT {

// quant::KvRowFormat::Code
constexpr uint32_t kKvFp8 = 0, kKvFp4 = 1, kKvF16 = 2;

DS4_FN DS4_GLOBAL uint8_t* kv_row(const DS4_LOCAL PagedRowsArgs& rows, uint32_t i) {
    const uint32_t in_page = i & ((1u << rows.log2_rows) - 1);
    return rows.pages[i >> rows.log2_rows] + rows.offset + in_page * rows.format.bytes;
}

// Exponent and mantissa of E4M3 stand as in F16, 8 exponent steps too low.
DS4_FN float decode_e4m3(uint32_t code) {
    return f16_to_f32(static_cast<uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7)) * 256;
}
DS4_FN float decode_e2m1(uint32_t code) {
    // Bits of 0, 0.5, 1, 1.5, 2, 3, 4, 6: exponent and mantissa, with the subnormal 0.5.
    const uint32_t magnitude = code & 7;
    const uint32_t bits = magnitude < 2 ? magnitude * 0x3f000000u : 0x3f800000u + ((magnitude - 2) << 22);
    return as_float(bits | (code & 8) << 28);
}

// Value i of a row.
DS4_FN float load_kv(const DS4_LOCAL KvFormatArgs& f, const DS4_GLOBAL uint8_t* row, uint32_t i) {
    if (f.code == kKvFp8) {
        const uint32_t n = f.width - f.n_tail;
        const DS4_GLOBAL uint8_t* codes = row + n / kFp8Block;
        if (i < n) return decode_e4m3(codes[i]) * e8m0(row[i / kFp8Block]);
        return f16_to_f32(static_cast<uint16_t>(load_u16_bytes(codes + n + 2 * (i - n))));
    }
    if (f.code == kKvFp4) {
        const uint32_t pair = row[f.width / 32 + i / 2];
        return decode_e2m1(pair >> (4 * (i % 2)) & 15) * e8m0(row[i / 32]);
    }
    if (f.code == kKvF16) return f16_to_f32(static_cast<uint16_t>(load_u16_bytes(row + 2 * i)));
    return as_float(load_u32_bytes(row + 4 * i));
}

// x lies on the grid.
DS4_FN uint32_t encode_e4m3(float x) {
    const uint32_t bits = as_uint(x);
    const uint32_t magnitude = bits & kMagnitudeMask;
    const uint32_t code = as_float(magnitude) < 0.015625f ? static_cast<uint32_t>(as_float(magnitude) * 512)
                                                          : (magnitude >> 20) - (120u << 3);
    return code | (bits >> 24 & 0x80);
}
DS4_FN uint32_t encode_e2m1(float x) {
    const uint32_t bits = as_uint(x);
    const float magnitude = smaller(as_float(bits & kMagnitudeMask), kFp4Max);
    const uint32_t code =
        magnitude < 1 ? static_cast<uint32_t>(magnitude * 2) : ((as_uint(magnitude) - 0x3f800000u) >> 22) + 2;
    return code | (bits >> 28 & 8);
}

// A whole row by one thread group; x is in shared memory and already rounded where the format asks for it.
template <class Values>
DS4_FN void store_kv(Thread t, const DS4_LOCAL KvFormatArgs& f, DS4_SHARED Values& x,
                     DS4_GLOBAL uint8_t* row) {
    const uint32_t n = f.width - f.n_tail;
    if (f.code == kKvFp8) {
        DS4_GLOBAL uint8_t* codes = row + n / kFp8Block;
        for (uint32_t b = t.simd; b < n / kFp8Block; b += t.n_simds) {
            const uint32_t i = b * kFp8Block + t.lane;
            const float scale = fp8_scale(t, x[i], x[i + 32]);
            const bool good = is_finite(scale);
            codes[i] = static_cast<uint8_t>(good ? encode_e4m3(x[i] / scale) : 0);
            codes[i + 32] = static_cast<uint8_t>(good ? encode_e4m3(x[i + 32] / scale) : 0);
            if (t.lane == 0) row[b] = static_cast<uint8_t>(good ? as_uint(scale) >> 23 : 255);
        }
        for (uint32_t i = t.index; i < f.n_tail; i += t.n_threads) {
            store_u16_bytes(codes + n + 2 * i, f32_to_f16(x[n + i]));
        }
    } else if (f.code == kKvFp4) {
        DS4_GLOBAL uint8_t* codes = row + n / 32;
        for (uint32_t b = t.simd; b < n / 32; b += t.n_simds) {
            const float v = x[b * 32 + t.lane];
            const float scale = fp4_scale(t, v);
            const bool good = is_finite(scale);
            const uint32_t code = good ? encode_e2m1(v / scale) : 0;
            const uint32_t next = simd_shuffle_xor(t, code, 1);
            if (t.lane % 2 == 0) codes[b * 16 + t.lane / 2] = static_cast<uint8_t>(code | next << 4);
            if (t.lane == 0) row[b] = static_cast<uint8_t>(good ? as_uint(scale) >> 23 : 255);
        }
    } else {
        for (uint32_t i = t.index; i < f.width; i += t.n_threads) {
            if (f.code == kKvF16) {
                store_u16_bytes(row + 2 * i, f32_to_f16(x[i]));
            } else {
                store_u32_bytes(row + 4 * i, as_uint(x[i]));
            }
        }
    }
}

}  // namespace ds4::gpu::DS4_DIALECT
