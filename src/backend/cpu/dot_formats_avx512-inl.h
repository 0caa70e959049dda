// The decoders of the weight formats for AVX-512 with VBMI and GFNI: 512 values of a row, as they lie in the
// file, to the registers of dot_chunk.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/float_bits.h"

DS4_KERNELS_BEGIN

// ---- Float formats: 16 values

struct FormatF32 {
    static constexpr std::size_t kBytes = 4;
    static HWY_INLINE F32 load(const std::byte* p) { return _mm512_loadu_ps(p); }
};
struct FormatF16 {
    static constexpr std::size_t kBytes = 2;
    static HWY_INLINE F32 load(const std::byte* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
};
struct FormatBf16 {
    static constexpr std::size_t kBytes = 2;
    static HWY_INLINE F32 load(const std::byte* p) {
        const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    }
};

// ---- Helpers

// From[k], a table of byte numbers, for an index register.
template <class From>
constexpr std::array<std::uint8_t, 64> byte_table(const From& from) {
    std::array<std::uint8_t, 64> table{};
    for (std::size_t k = 0; k < 64; ++k) table[k] = static_cast<std::uint8_t>(from(k));
    return table;
}

// Two groups of 32 bytes, each as the 32-bit words (j, 8 + j, 16 + j, 24 + j), j = 0 .. 7.
HWY_INLINE __m512i load_words(const std::byte* low, const std::byte* high) {
    // Byte k of 64: of word k / 4 % 8; 64 and more number the bytes of the second register.
    alignas(kRegister) static constexpr auto kFrom =
        byte_table([](std::size_t k) { return k / 32 * 64 + k % 4 * 8 + k / 4 % 8; });
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
    return _mm512_permutex2var_epi8(_mm512_castsi256_si512(a), _mm512_load_si512(kFrom.data()),
                                    _mm512_castsi256_si512(b));
}

// Two f16 numbers, one for the lower eight lanes, one for the upper.
HWY_INLINE F32 load_scales(const std::byte* low, const std::byte* high) {
    const __m256i a = _mm256_set1_epi16(quant::load<std::int16_t>(low));
    const __m256i b = _mm256_set1_epi16(quant::load<std::int16_t>(high));
    return _mm512_cvtph_ps(_mm256_blend_epi32(a, b, 0xf0));
}

// From the words of groups side by side to one group per lane. In: pair[r] holds groups r and 4 + r, pair[4 +
// r] groups 8 + r and 12 + r. Within each 16 bytes this is a 4 x 4 transposition.
HWY_INLINE void groups_to_lanes(const __m512i (&pair)[8], Codes (&code)[8]) {
    __m512i word[2][4];  // of the lower and of the upper eight groups
    for (int s = 0; s < 2; ++s) {
        const __m512i* p = pair + 4 * s;
        const __m512i a = _mm512_unpacklo_epi32(p[0], p[1]), b = _mm512_unpackhi_epi32(p[0], p[1]);
        const __m512i c = _mm512_unpacklo_epi32(p[2], p[3]), d = _mm512_unpackhi_epi32(p[2], p[3]);
        word[s][0] = _mm512_unpacklo_epi64(a, c);
        word[s][1] = _mm512_unpackhi_epi64(a, c);
        word[s][2] = _mm512_unpacklo_epi64(b, d);
        word[s][3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int k = 0; k < 4; ++k) {
        code[k] = _mm512_shuffle_i32x4(word[0][k], word[1][k], 0x88);
        code[4 + k] = _mm512_shuffle_i32x4(word[0][k], word[1][k], 0xdd);
    }
}

// ---- Q8_0

struct FormatQ8_0 {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 32, kBlockBytes = sizeof(quant::BlockQ8_0);

    static HWY_INLINE void decode(const std::byte* w, std::size_t, WeightPart<false>& out) {
        const std::byte* q = w + offsetof(quant::BlockQ8_0, q);
        const __m512i sign_bits = _mm512_set1_epi8(-128);
        __m512i pair[8];
        for (std::size_t r = 0; r < 8; ++r) {
            const std::size_t g = r < 4 ? r : 4 + r;
            pair[r] = load_words(q + g * kBlockBytes, q + (g + 4) * kBlockBytes);
            pair[r] = _mm512_xor_si512(pair[r], sign_bits);
        }
        groups_to_lanes(pair, out.code);
        out.scale = scales(w);
    }

  private:
    // The scale of block g is word 17g of the chunk: words 2i and 2i + 17 of the i-th 64 bytes are the scales
    // of blocks 2i and 2i + 1, and go to places 2i and 2i + 1.
    static HWY_INLINE F32 scales(const std::byte* w) {
        alignas(kRegister) static constexpr auto kFrom = [] {
            std::array<std::uint16_t, 32> from{};
            for (std::size_t i = 0; i < 16; ++i)
                from[i] = static_cast<std::uint16_t>(i % 2 == 0 ? i : i + 16);
            return from;
        }();
        const __m512i from = _mm512_load_si512(kFrom.data());
        __m512i words = _mm512_setzero_si512();
        for (std::size_t i = 0; i < 8; ++i) {
            words = _mm512_mask_permutexvar_epi16(words, __mmask32{3} << (2 * i), from,
                                                  _mm512_loadu_si512(w + 64 * i));
        }
        return _mm512_cvtph_ps(_mm512_castsi512_si256(words));
    }
};

// ---- MXFP4

struct FormatMxfp4 {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 32, kBlockBytes = sizeof(quant::BlockMxfp4);

    static HWY_INLINE void decode(const std::byte* w, std::size_t, WeightPart<false>& out) {
        // Word j of a group wants bytes j and 8 + j twice: for their low and for their high nibbles.
        alignas(kRegister) static constexpr auto kFrom =
            byte_table([](std::size_t k) { return k / 32 * 64 + k % 2 * 8 + k / 4 % 8; });
        // By the low four bits of a byte; a permutation's index has six.
        alignas(kRegister) static constexpr auto kCodes =
            byte_table([](std::size_t k) { return 128 + kDoubledE2m1[k % 16]; });
        const std::byte* q = w + offsetof(quant::BlockMxfp4, q);
        const __m512i from = _mm512_load_si512(kFrom.data());
        const __m512i codes = _mm512_load_si512(kCodes.data());
        __m512i pair[8];
        for (std::size_t r = 0; r < 8; ++r) {
            const std::size_t g = r < 4 ? r : 4 + r;
            const __m512i bytes = _mm512_permutex2var_epi8(load_128(q + g * kBlockBytes), from,
                                                           load_128(q + (g + 4) * kBlockBytes));
            const __m512i nibbles = _mm512_srlv_epi16(bytes, _mm512_set1_epi32(0x00040000));
            pair[r] = _mm512_permutexvar_epi8(nibbles, codes);
        }
        groups_to_lanes(pair, out.code);
        out.scale = scales(w);
    }

  private:
    static HWY_INLINE __m512i load_128(const std::byte* p) {
        return _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }

    // The exponent of block g is byte 17g of the chunk: bytes 4i + 17m of the i-th 64 bytes are those of
    // blocks 4i + m, m = 0 .. 3, and go to places 4i + m.
    static HWY_INLINE F32 scales(const std::byte* w) {
        alignas(kRegister) static constexpr auto kFrom = [] {
            std::array<std::uint8_t, 64> from{};
            for (std::size_t i = 0; i < 16; ++i) from[i] = static_cast<std::uint8_t>(i + 16 * (i % 4));
            return from;
        }();
        const __m512i from = _mm512_load_si512(kFrom.data());
        __m512i bytes = _mm512_setzero_si512();
        for (std::size_t i = 0; i < 4; ++i) {
            bytes = _mm512_mask_permutexvar_epi8(bytes, __mmask64{15} << (4 * i), from,
                                                 _mm512_loadu_si512(w + 64 * i));
        }
        // 2^(e - 128): a subnormal for e < 2, NaN for 255.
        const __m512i e = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(bytes));
        __m512i bits = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        bits = _mm512_mask_sllv_epi32(bits, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)),
                                      _mm512_set1_epi32(0x00200000), e);
        bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(e, _mm512_set1_epi32(255)),
                                     _mm512_set1_epi32(0x7fc00000));
        return _mm512_castsi512_ps(bits);
    }
};

// ---- Q2_K

struct FormatQ2K {
    static constexpr bool kAffine = true;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockQ2K);

    static HWY_INLINE void decode(const std::byte* w, std::size_t, WeightPart<true>& out) {
        const std::byte* next = w + kBlockBytes;
        const __m512i planes = _mm512_loadu_si512(w + offsetof(quant::BlockQ2K, q));
        const __m512i next_planes = _mm512_loadu_si512(next + offsetof(quant::BlockQ2K, q));
        const __m512i multiples = scale_multiples(w), next_multiples = scale_multiples(next);
        const __m512i plane_shifts = _mm512_broadcast_i32x4(_mm_set_epi32(6, 4, 2, 0));
        const __m512i rows = _mm512_load_si512(kRows.data());
        for (std::size_t j = 0; j < 8; ++j) {
            const __m512i from = _mm512_load_si512(kFrom[j].data());
            const __m512i bytes = _mm512_permutex2var_epi8(planes, from, next_planes);
            const __m512i codes = _mm512_srlv_epi32(bytes, plane_shifts);
            constexpr int kMaskedOr = 0xea;  // (a & b) | c
            const __m512i index = _mm512_ternarylogic_epi32(codes, _mm512_set1_epi8(3), rows, kMaskedOr);
            out.code[j] = _mm512_permutex2var_epi8(multiples, index, next_multiples);
        }
        constexpr std::size_t kD = offsetof(quant::BlockQ2K, d), kMin = offsetof(quant::BlockQ2K, dmin);
        out.scale = load_scales(w + kD, next + kD);
        out.minimum_scale = load_scales(w + kMin, next + kMin);
        const __m256i scales = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w))),
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(next)), 1);
        out.minimum =
            _mm512_cvtepu8_epi16(_mm256_and_si256(_mm256_srli_epi16(scales, 4), _mm256_set1_epi8(15)));
    }

  private:
    // Group 4h + p of a block is plane p of its bytes 32h .. 32h + 31; byte k of a register belongs to lane k
    // / 4.
    alignas(kRegister) static constexpr auto kFrom = [] {
        std::array<std::array<std::uint8_t, 64>, 8> from{};
        for (std::size_t j = 0; j < 8; ++j) {
            from[j] =
                byte_table([j](std::size_t k) { return k / 32 * 64 + k / 16 % 2 * 32 + k % 4 * 8 + j; });
        }
        return from;
    }();
    // Where its sub-block begins in the tables of scale_multiples.
    alignas(kRegister) static constexpr auto kRows = byte_table([](std::size_t k) {
        return 4 * (k / 4 * 2 + k % 4 / 2);
    });

    // {0, s, 2s, 3s} for the scale s of each of the 16 sub-blocks: a table that turns codes into their
    // products with the scale.
    static HWY_INLINE __m512i scale_multiples(const std::byte* block) {
        const __m128i scales =
            _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block)), _mm_set1_epi8(15));
        return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(scales), _mm512_set1_epi32(0x03020100));
    }
};

// ---- Q4_K

struct FormatQ4K {
    static constexpr bool kAffine = true;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockQ4K);

    static HWY_INLINE void decode(const std::byte* w, std::size_t, WeightPart<true>& out) {
        const std::byte* next = w + kBlockBytes;
        __m512i pair[8];
        decode_block(w + offsetof(quant::BlockQ4K, q), pair);
        decode_block(next + offsetof(quant::BlockQ4K, q), pair + 4);
        groups_to_lanes(pair, out.code);
        const quant::ScalesQ4K a = quant::unpack_scales(w + offsetof(quant::BlockQ4K, scales));
        const quant::ScalesQ4K b = quant::unpack_scales(next + offsetof(quant::BlockQ4K, scales));
        const F32 d = load_scales(w, next);
        out.scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(join(a.scale, b.scale)));
        constexpr std::size_t kMin = offsetof(quant::BlockQ4K, dmin);
        out.minimum_scale = load_scales(w + kMin, next + kMin);
        const __m512i minimum = join(a.minimum, b.minimum);
        out.minimum = _mm512_or_si512(minimum, _mm512_slli_epi32(minimum, 16));
    }

  private:
    // Bytes 0 .. 31 hold groups 0 and 1, the next 32 groups 2 and 3, and so on.
    static HWY_INLINE void decode_block(const std::byte* q, __m512i* pair) {
        const __m512i low = _mm512_set1_epi8(15);
        for (std::size_t half = 0; half < 2; ++half) {
            const __m512i bytes = load_words(q + 32 * half, q + 64 + 32 * half);
            pair[2 * half] = _mm512_and_si512(bytes, low);
            pair[2 * half + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
        }
    }

    static HWY_INLINE I32 join(const std::uint8_t (&a)[8], const std::uint8_t (&b)[8]) {
        std::int64_t low, high;
        std::memcpy(&low, a, 8);
        std::memcpy(&high, b, 8);
        return _mm512_cvtepu8_epi32(_mm_set_epi64x(high, low));
    }
};

// ---- IQ2_XXS

struct FormatIQ2XXS {
    static constexpr bool kAffine = false;
    static constexpr std::size_t kBlockValues = 256, kBlockBytes = sizeof(quant::BlockIQ2XXS);

    static HWY_INLINE void decode(const std::byte* w, std::size_t, WeightPart<false>& out) {
        // Each 64 bits are a group: four rows of the codebook, then signs and scale.
        const std::byte* next = w + kBlockBytes;
        constexpr std::size_t kGroups = offsetof(quant::BlockIQ2XXS, groups);
        const __m512i first = _mm512_loadu_si512(w + kGroups), second = _mm512_loadu_si512(next + kGroups);
        const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
        const __m512i rows = _mm512_permutex2var_epi32(first, even, second);
        const __m512i packed = _mm512_permutex2var_epi32(first, odd, second);

        // The indices of the four tuples' signs, a byte each.
        const __m512i sign_offsets = _mm512_set1_epi64(0x352e272015'0e0700);
        const __m512i signs = _mm512_multishift_epi64_epi8(sign_offsets, packed);
        set_elements<0>(rows, signs, out.code);
        set_elements<1>(rows, signs, out.code);
        set_elements<2>(rows, signs, out.code);
        set_elements<3>(rows, signs, out.code);

        const __m512i code = _mm512_srli_epi32(packed, 28);
        const __m512i numerator = _mm512_or_si512(_mm512_add_epi32(code, code), _mm512_set1_epi32(1));
        const F32 d = _mm512_mul_ps(load_scales(w, next), _mm512_set1_ps(0.125f));
        out.scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(numerator));
    }

  private:
    // Elements k and k + 4 of all 64 tuples: the codes of both from the codebook, a nibble each, and above
    // each code its sign.
    template <int k>
    static HWY_INLINE void set_elements(__m512i rows, __m512i signs, Codes (&code)[8]) {
        // A product with a matrix over GF(2) moves bit k of the index to bit 2 and bit k + 4 to bit 6; the
        // eighth sign is the parity of the seven bits. model.md 14.4
        constexpr std::int64_t kHigh = k == 3 ? 0x7f : 0x10 << k;
        const __m512i matrix = _mm512_set1_epi64((std::int64_t{1} << k) << 40 | kHigh << 8);
        const __m512i sign_bits = _mm512_gf2p8affine_epi64_epi8(signs, matrix, 0);
        const std::uint8_t* table = quant::kIq2xxsNibbles.data() + 256 * k;
        const __mmask64 upper_half = _mm512_movepi8_mask(rows);
        const __m512i lower = _mm512_maskz_permutex2var_epi8(~upper_half, _mm512_load_si512(table), rows,
                                                             _mm512_load_si512(table + 64));
        const __m512i upper = _mm512_maskz_permutex2var_epi8(upper_half, _mm512_load_si512(table + 128), rows,
                                                             _mm512_load_si512(table + 192));
        constexpr int kOr = 0xfe;  // a | b | c
        const __m512i nibbles = _mm512_ternarylogic_epi32(lower, upper, sign_bits, kOr);
        // +-8, 25, 43, with 128 added, by the low three bits of a byte; a permutation's index has six, and
        // the fourth is zero.
        const __m512i values = _mm512_set1_epi64(0x0055677800ab9988);
        code[k] = _mm512_permutexvar_epi8(nibbles, values);
        code[k + 4] = _mm512_permutexvar_epi8(_mm512_srli_epi16(nibbles, 4), values);
    }
};

DS4_KERNELS_END
