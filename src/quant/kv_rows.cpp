#include "quant/kv_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "quant/float_bits.h"
#include "quant/rounding.h"

namespace ds4::quant {
namespace {

using Code = KvRowFormat::Code;

constexpr std::uint8_t kNanScale = 255;
constexpr float kE4m3MinNormal = 0x1p-6F;

std::size_t as_size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

// 0, 0.5, 1, 1.5, 2, 3, 4, 6 by twice their value.
constexpr std::array<std::uint8_t, 13> kE2m1Code = {0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7};

std::uint8_t encode_e4m3(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (bits >> 24) & 0x80U;
    const float magnitude = std::bit_cast<float>(bits & kF32MagnitudeMask);
    const std::uint32_t normal = ((bits & kF32MagnitudeMask) >> 20) - (120U << 3);
    const auto subnormal = static_cast<std::uint32_t>(static_cast<std::int32_t>(magnitude * 512));
    // Without a branch, so that the compiler does many at a time.
    const std::uint32_t is_subnormal = 0U - static_cast<std::uint32_t>(magnitude < kE4m3MinNormal);
    return static_cast<std::uint8_t>(sign | (subnormal & is_subnormal) | (normal & ~is_subnormal));
}

float decode_e4m3(std::uint8_t code) {
    // Exponent and mantissa stand as in F16, 8 exponent steps too low.
    const auto f16 = static_cast<std::uint16_t>(static_cast<unsigned>(code & 0x80) << 8 |
                                                static_cast<unsigned>(code & 0x7f) << 7);
    return f16_to_f32(f16) * 256;
}

std::uint8_t encode_e2m1(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const float magnitude = std::min(std::bit_cast<float>(bits & kF32MagnitudeMask), 6.0F);
    const std::uint8_t code = kE2m1Code[static_cast<std::size_t>(magnitude * 2)];
    return static_cast<std::uint8_t>(code | (bits >> 28 & 8U));
}

// The scale exponent of a block that is on its grid; kNanScale if it holds a NaN or an infinity.
template <std::size_t kBlock>
std::uint8_t block_scale(const float* x, float floor, float max) {
    std::uint32_t max_bits = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
        max_bits = std::max(max_bits, std::bit_cast<std::uint32_t>(x[i]) & kF32MagnitudeMask);
    }
    if (max_bits >= kF32ExponentMask) return kNanScale;
    return scale_exponent(std::max(std::bit_cast<float>(max_bits), floor), max);
}

void encode_fp8(const KvRowFormat& format, const float* x, std::byte* row) {
    const std::size_t n = as_size(format.width - format.n_tail);
    std::byte* codes = row + n / kFp8Block;
    for (std::size_t b = 0; b < n; b += kFp8Block) {
        const std::uint8_t scale = block_scale<kFp8Block>(x + b, kFp8Floor, kFp8Max);
        row[b / kFp8Block] = static_cast<std::byte>(scale);
        std::array<std::uint8_t, kFp8Block> block{};  // bytes in memory could be the values themselves
        if (scale != kNanScale) {
            const float inverse = 1.0F / e8m0_to_f32(scale);
            for (std::size_t i = 0; i < kFp8Block; ++i) block[i] = encode_e4m3(x[b + i] * inverse);
        }
        std::memcpy(codes + b, block.data(), kFp8Block);
    }
    for (std::size_t i = 0; i < as_size(format.n_tail); ++i) store(codes + n + 2 * i, f32_to_f16(x[n + i]));
}

void decode_fp8(const KvRowFormat& format, const std::byte* row, float* x) {
    const std::size_t n = as_size(format.width - format.n_tail);
    const std::byte* codes = row + n / kFp8Block;
    for (std::size_t i = 0; i < n; ++i) {
        const float scale = e8m0_to_f32(static_cast<std::uint8_t>(row[i / kFp8Block]));
        x[i] = decode_e4m3(static_cast<std::uint8_t>(codes[i])) * scale;
    }
    for (std::size_t i = 0; i < as_size(format.n_tail); ++i) {
        x[n + i] = f16_to_f32(load<std::uint16_t>(codes + n + 2 * i));
    }
}

void encode_fp4(const KvRowFormat& format, const float* x, std::byte* row) {
    const std::size_t n = as_size(format.width);
    std::byte* codes = row + n / kFp4Block;
    for (std::size_t b = 0; b < n; b += kFp4Block) {
        const std::uint8_t scale = block_scale<kFp4Block>(x + b, kFp4Floor, kFp4Max);
        row[b / kFp4Block] = static_cast<std::byte>(scale);
        const float inverse = scale == kNanScale ? 0.0F : 1.0F / e8m0_to_f32(scale);
        const auto code = [&](std::size_t i) {
            return static_cast<unsigned>(encode_e2m1(scale == kNanScale ? 0.0F : x[i] * inverse));
        };
        for (std::size_t i = b; i < b + kFp4Block; i += 2) {
            codes[i / 2] = static_cast<std::byte>(code(i) | code(i + 1) << 4);
        }
    }
}

// Both values of every byte of two codes.
constexpr auto kE2m1Pairs = [] {
    std::array<std::array<float, 2>, 256> pairs{};
    for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = {kE2m1Values[i & 15], kE2m1Values[i >> 4]};
    return pairs;
}();

void decode_fp4(const KvRowFormat& format, const std::byte* row, float* x) {
    const std::size_t n = as_size(format.width);
    const std::byte* codes = row + n / kFp4Block;
    for (std::size_t b = 0; b < n; b += kFp4Block) {
        const float scale = e8m0_to_f32(static_cast<std::uint8_t>(row[b / kFp4Block]));
        for (std::size_t i = b; i < b + kFp4Block; i += 2) {
            const auto& pair = kE2m1Pairs[static_cast<std::size_t>(codes[i / 2])];
            x[i] = pair[0] * scale;
            x[i + 1] = pair[1] * scale;
        }
    }
}

KvRowFormat plain(KvFormat format, std::int64_t width) {
    if (format == KvFormat::f16) return {Code::f16, width, 0, as_size(2 * width)};
    return {Code::f32, width, 0, as_size(4 * width)};
}

}  // namespace

KvRowFormat KvRowFormat::attention(KvFormat format, std::int64_t width, std::int64_t n_tail) {
    if (format != KvFormat::packed) return plain(format, width);
    const std::size_t n = as_size(width - n_tail);
    return {Code::fp8, width, n_tail, n / kFp8Block + n + as_size(2 * n_tail)};
}

KvRowFormat KvRowFormat::indexer(KvFormat format, std::int64_t width) {
    if (format != KvFormat::packed) return plain(format, width);
    return {Code::fp4, width, 0, as_size(width) / kFp4Block + as_size(width / 2)};
}

void encode_kv_row(const KvRowFormat& format, const float* x, std::byte* row) {
    const std::size_t n = as_size(format.width);
    switch (format.code) {
        case Code::fp8:
            return encode_fp8(format, x, row);
        case Code::fp4:
            return encode_fp4(format, x, row);
        case Code::f16:
            for (std::size_t i = 0; i < n; ++i) store(row + 2 * i, f32_to_f16(x[i]));
            return;
        case Code::f32:
            std::memcpy(row, x, n * sizeof(float));
            return;
    }
}

void decode_kv_row(const KvRowFormat& format, const std::byte* row, float* x) {
    const std::size_t n = as_size(format.width);
    switch (format.code) {
        case Code::fp8:
            return decode_fp8(format, row, x);
        case Code::fp4:
            return decode_fp4(format, row, x);
        case Code::f16:
            for (std::size_t i = 0; i < n; ++i) x[i] = f16_to_f32(load<std::uint16_t>(row + 2 * i));
            return;
        case Code::f32:
            std::memcpy(x, row, n * sizeof(float));
            return;
    }
}

void round_f16(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) x[i] = f16_to_f32(f32_to_f16(x[i]));
}

}  // namespace ds4::quant
