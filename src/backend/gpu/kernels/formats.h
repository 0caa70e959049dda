#pragma once

#include "backend/gpu/kernels/memory.h"

// The storage formats of weights (model.md 14, quant/*.h) as kernels read them, in the layout of the file.
namespace ds4::gpu::DS4_DIALECT {

// The codebook of IQ2_XXS: two bits per magnitude, 0 -> 8, 1 -> 25, 2 -> 43.
DS4_TABLE uint16_t kIq2Codes[256] = {
#include "quant/iq2_xxs_codes.inc"
};

// Four 2-bit numbers become the nibbles of a selector of permute_bytes.
DS4_FN uint32_t spread_pairs(uint32_t v) {
    v = (v | v << 4) & 0x0f0fu;
    return (v | v << 2) & 0x3333u;
}

// Four bits become the bytes 0 and 255.
DS4_FN uint32_t spread_bits(uint32_t v) {
    return ((v & 15) * 0x00204081u & 0x01010101u) * 255;
}

// The four bytes of v, none of them zero, with the signs of the low four bits of `signs`.
DS4_FN uint32_t apply_signs(uint32_t v, uint32_t signs) {
    const uint32_t mask = spread_bits(signs);
    return (v ^ mask) + (mask & 0x01010101u);
}

// 32 consecutive weights: value i = factor * d * code[i] - dmin * (minimum of its half), codes in int8.
struct WeightGroup {
    uint32_t codes[8];
    int32_t factor;
    float d;
    int32_t minimum[2];
    float dmin;
};

// Each format of int8 products says how activations come to it (kernels/activations.h) and gives group g of a
// row.

struct Q8_0 {
    static constexpr bool kIsK = false;
    static constexpr bool kHasMinimum = false;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* row, uint32_t g) {
        const DS4_GLOBAL uint8_t* block = row + g * 34;
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 8; ++i) w.codes[i] = load_u32_halves(block + 2 + 4 * i);
        w.factor = 1;
        w.d = load_f16(block);
        return w;
    }
};

// Four FP4 codes in the low nibbles of the bytes of v -> twice their values.
DS4_FN uint32_t doubled_e2m1(uint32_t v) {
    const uint32_t nibbles = (v & 15) | (v >> 4 & 0xf0) | (v >> 8 & 0xf00) | (v >> 12 & 0xf000);
    const uint32_t selector = nibbles & 0x7777u;
    const uint32_t positive = permute_bytes(0x03020100u, 0x0c080604u, selector);
    const uint32_t negative = permute_bytes(0xfdfeff00u, 0xf4f8fafcu, selector);
    const uint32_t mask = (v >> 3 & 0x01010101u) * 255;
    return (positive & ~mask) | (negative & mask);
}

struct Mxfp4 {
    static constexpr bool kIsK = false;
    static constexpr bool kHasMinimum = false;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* row, uint32_t g) {
        const DS4_GLOBAL uint8_t* block = row + g * 17;
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t v = load_u32_bytes(block + 1 + 4 * i);
            w.codes[i] = doubled_e2m1(v & 0x0f0f0f0fu);
            w.codes[i + 4] = doubled_e2m1(v >> 4 & 0x0f0f0f0fu);
        }
        w.factor = 1;
        w.d = e8m0(block[0]) * 0.5f;
        return w;
    }
};

// A code of 2 bits times a scale of 4 fits a byte, so the two scales of a group go into the codes.
struct Q2K {
    static constexpr bool kIsK = true;
    static constexpr bool kHasMinimum = true;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* row, uint32_t g) {
        const DS4_GLOBAL uint8_t* block = row + g / 8 * 84;
        const uint32_t in_block = g % 8;  // half in_block / 4, plane in_block % 4
        const DS4_GLOBAL uint8_t* q = block + 16 + in_block / 4 * 32;
        const uint32_t shift = 2 * (in_block % 4);
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t half = 0; half < 2; ++half) {
            const uint32_t scales = block[2 * in_block + half];
            DS4_UNROLL
            for (uint32_t i = 0; i < 4; ++i) {
                w.codes[4 * half + i] =
                    (load_u32(q + 16 * half + 4 * i) >> shift & 0x03030303u) * (scales & 15);
            }
            w.minimum[half] = static_cast<int32_t>(scales >> 4);
        }
        w.factor = 1;
        w.d = load_f16(block + 80);
        w.dmin = load_f16(block + 82);
        return w;
    }
};

// Scale (which = 0) or minimum (which = 1) of sub-block j: quant::unpack_scales.
DS4_FN uint32_t q4_k_scale(const DS4_GLOBAL uint8_t* packed, uint32_t j, uint32_t which) {
    const uint32_t first = packed[4 * which + j % 4];
    if (j < 4) return first & 63;
    return (packed[4 + j] >> (4 * which) & 15) | (first >> 2 & 48);
}

struct Q4K {
    static constexpr bool kIsK = true;
    static constexpr bool kHasMinimum = true;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* row, uint32_t g) {
        const DS4_GLOBAL uint8_t* block = row + g / 8 * 144;
        const uint32_t j = g % 8;  // sub-block
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t i = 0; i < 8; ++i) {
            w.codes[i] = load_u32(block + 16 + j / 2 * 32 + 4 * i) >> (4 * (j % 2)) & 0x0f0f0f0fu;
        }
        w.factor = static_cast<int32_t>(q4_k_scale(block + 4, j, 0));
        w.d = load_f16(block);
        w.minimum[0] = w.minimum[1] = static_cast<int32_t>(q4_k_scale(block + 4, j, 1));
        w.dmin = load_f16(block + 2);
        return w;
    }
};

struct Iq2Xxs {
    static constexpr bool kIsK = true;
    static constexpr bool kHasMinimum = false;

    static DS4_FN WeightGroup group(const DS4_GLOBAL uint8_t* row, uint32_t g) {
        constexpr uint32_t kMagnitudes = 0x002b1908u;
        const DS4_GLOBAL uint8_t* block = row + g / 8 * 66;
        const DS4_GLOBAL uint8_t* packed = block + 2 + g % 8 * 8;
        const uint32_t signs_and_scale = load_u32_halves(packed + 4);
        WeightGroup w = {};
        DS4_UNROLL
        for (uint32_t l = 0; l < 4; ++l) {
            const uint32_t codes = kIq2Codes[packed[l]];
            const uint32_t index = signs_and_scale >> (7 * l) & 127;
            const uint32_t signs = index | (popcount(index) & 1) << 7;
            w.codes[2 * l] = apply_signs(permute_bytes(kMagnitudes, 0, spread_pairs(codes & 255)), signs);
            w.codes[2 * l + 1] =
                apply_signs(permute_bytes(kMagnitudes, 0, spread_pairs(codes >> 8)), signs >> 4);
        }
        w.factor = static_cast<int32_t>(2 * (signs_and_scale >> 28) + 1);
        w.d = load_f16(block) * 0.125f;
        return w;
    }
};

// quant::Type
constexpr uint32_t kTypeF32 = 0, kTypeF16 = 1, kTypeQ8_0 = 8, kTypeQ2K = 10, kTypeQ4K = 12, kTypeIq2Xxs = 16,
                   kTypeBf16 = 30, kTypeMxfp4 = 39;

// Value i of a row, as quant::Format::decode gives it. For tables of which few rows are read.
template <class Format>
DS4_FN float group_value(const DS4_GLOBAL uint8_t* row, uint32_t i) {
    const WeightGroup w = Format::group(row, i / 32);
    const int32_t code = static_cast<int8_t>(w.codes[i % 32 / 4] >> (8 * (i % 4)));
    const float value = w.d * static_cast<float>(w.factor * code);
    return Format::kHasMinimum ? value - w.dmin * static_cast<float>(w.minimum[i % 32 / 16]) : value;
}

DS4_FN float weight_value(uint32_t type, const DS4_GLOBAL uint8_t* row, uint32_t i) {
    if (type == kTypeF32) return load_f32(row + 4 * i);
    if (type == kTypeF16) return load_f16(row + 2 * i);
    if (type == kTypeBf16) return load_bf16(row + 2 * i);
    if (type == kTypeQ8_0) return group_value<Q8_0>(row, i);
    if (type == kTypeMxfp4) return group_value<Mxfp4>(row, i);
    if (type == kTypeQ2K) return group_value<Q2K>(row, i);
    if (type == kTypeQ4K) return group_value<Q4K>(row, i);
    return group_value<Iq2Xxs>(row, i);
}

}  // namespace ds4::gpu::DS4_DIALECT
