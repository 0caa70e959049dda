#pragma once

#include "backend/gpu/cuda/expert_tiles.h"

// Tiles (tiles.h) as fragments of halves, two of 16 rows x 16 inputs from 32 inputs: for products with
// halves, in their order (tiles::half_place). What a weight loses is its rounding to a half (2^-12), scale
// included.
namespace ds4::gpu::cuda {

DS4_DEVICE uint32_t sub_halves(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
DS4_DEVICE uint32_t mul_halves(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
DS4_DEVICE uint32_t fma_halves(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DS4_DEVICE uint32_t low_twice(uint32_t pair) {
    return permute(pair, 0, 0x1010);
}
DS4_DEVICE uint32_t high_twice(uint32_t pair) {
    return permute(pair, 0, 0x3232);
}

// 0x6400 | n is the half 1024 + n: bytes 0, 1 and bytes 2, 3 of a word as halves plus 1024.
constexpr uint32_t kHalf1024 = 0x64006400u, kHalf1152 = 0x64806480u;
DS4_DEVICE uint32_t first_bytes(uint32_t word) {
    return permute(word, 0x64u, 0x4140);
}
DS4_DEVICE uint32_t last_bytes(uint32_t word) {
    return permute(word, 0x64u, 0x4342);
}
// n (n < 2^10) in both places of a word of 16 bits each, as halves.
DS4_DEVICE uint32_t small_halves(uint32_t pair) {
    return sub_halves(pair | kHalf1024, kHalf1024);
}

// A fragment of 16 rows x 16 inputs.
struct HalfFragment {
    uint32_t a[4];
};

// One lane's view of a stage, 64 inputs of a tile: HalfStage(tile, sub, table, lane) for inputs 64 sub .. 64
// sub + 63, then part<0> and <1> for its 32 inputs, then fragments <0> and <1> of the part. kScale: what the
// products are multiplied by in the end.
template <tiles::Layout layout>
struct HalfStage;

// (byte - zero) * scale for row g or g + 8; four bytes of a word.
DS4_DEVICE void put_bytes(HalfFragment& out, uint32_t half, uint32_t word, uint32_t zero, uint32_t scale) {
    out.a[half] = mul_halves(sub_halves(first_bytes(word), zero), scale);
    out.a[2 + half] = mul_halves(sub_halves(last_bytes(word), zero), scale);
}

template <>
struct HalfStage<tiles::Layout::q8_0> {
    static constexpr float kScale = 1;
    const uint8_t *codes, *scales;

    DS4_DEVICE HalfStage(const uint8_t* tile, uint32_t sub, const uint8_t*, uint32_t lane)
        : codes(tile + 1024 * sub + 16 * lane), scales(tile + tiles::kQ8Scales + lane / 4 * 16 + 8 * sub) {}

    struct Part {
        const uint8_t* codes;
        uint32_t scale[2];
        template <uint32_t step>
        DS4_DEVICE HalfFragment fragment() const {
            const uint2 v = load<uint2>(codes + 8 * step);
            HalfFragment out;
            put_bytes(out, 0, v.x ^ 0x80808080u, kHalf1152, scale[0]);
            put_bytes(out, 1, v.y ^ 0x80808080u, kHalf1152, scale[1]);
            return out;
        }
    };
    template <uint32_t f>
    DS4_DEVICE Part part() const {
        const uint32_t s = load<uint32_t>(scales + 4 * f);
        return {codes + 512 * f, {low_twice(s), high_twice(s)}};
    }
};

template <>
struct HalfStage<tiles::Layout::f16> {
    static constexpr float kScale = 1;
    const uint8_t* words;

    DS4_DEVICE HalfStage(const uint8_t* tile, uint32_t, const uint8_t*, uint32_t lane)
        : words(tile + 16 * lane) {}

    struct Part {
        const uint8_t* words;
        template <uint32_t step>
        DS4_DEVICE HalfFragment fragment() const {
            const uint4 v = load<uint4>(words + 512 * step);
            return {{v.x, v.y, v.z, v.w}};
        }
    };
    template <uint32_t f>
    DS4_DEVICE Part part() const {
        return {words + 1024 * f};
    }
};

template <>
struct HalfStage<tiles::Layout::iq2_xxs> {
    static constexpr float kScale = 0.125f;
    uint32_t table;  // Iq2Table::lane_address
    uint32_t indices, signs;
    uint32_t scales;  // byte b: 2 nu + 1 of group b / 2 of the stage, row g + 8 * (b % 2)
    uint32_t d;

    DS4_DEVICE HalfStage(const uint8_t* tile, uint32_t sub, const uint8_t* table_, uint32_t lane)
        : table(Iq2Table::lane_address(table_, lane)),
          indices(load<uint32_t>(tile + 16 * lane + 4 * sub)),
          signs(load<uint32_t>(tile + tiles::kIq2Signs + 16 * lane + 4 * sub)),
          d(load<uint32_t>(tile + tiles::kIq2D + lane / 4 * 4)) {
        // The spare bits of lane `sub` of the four are the nibbles of this stage.
        constexpr uint32_t kSpare = 0x01010101u;
        const uint4 bits = load<uint4>(tile + tiles::kIq2Signs + 16 * ((lane & ~3u) + sub));
        const uint32_t low = (bits.x & kSpare) + 2 * (bits.y & kSpare);
        const uint32_t high = (bits.z & kSpare) + 2 * (bits.w & kSpare);
        scales = kSpare + 2 * low + 8 * high;
    }

    struct Part {
        uint32_t select[2], scale[2];
        template <uint32_t step>
        DS4_DEVICE HalfFragment fragment() const {
            HalfFragment out;
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half) {
                // 128 + and - {8, 25, 43}
                const uint32_t nibbles = step == 0 ? select[half] : select[half] >> 16;
                put_bytes(out, half, permute(0x00ab9988u, 0x00556778u, nibbles), kHalf1152, scale[half]);
            }
            return out;
        }
    };
    template <uint32_t f>
    DS4_DEVICE Part part() const {
        // Rows g and g + 8: (2 nu + 1) d.
        const uint32_t scale =
            mul_halves(sub_halves(f == 0 ? first_bytes(scales) : last_bytes(scales), kHalf1024), d);
        Part out;
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            out.select[half] = half == 0 ? Iq2Table::select<2 * f>(table, indices, signs)
                                         : Iq2Table::select<2 * f + 1>(table, indices, signs);
            out.scale[half] = half == 0 ? low_twice(scale) : high_twice(scale);
        }
        return out;
    }
};

// (d, dmin) of row g and of row g + 8 as (d, d) and (dmin, dmin).
struct PairScales {
    uint32_t d, dmin;
    DS4_DEVICE PairScales(const uint8_t* pairs, uint32_t lane) {
        const uint2 v = load<uint2>(pairs + lane / 4 * 8);
        d = permute(v.x, v.y, 0x5410);
        dmin = permute(v.x, v.y, 0x7632);
    }
};

// code * scale + minimum of a part: rows g and g + 8 in the low and high halves.
struct ScaledCodes {
    uint32_t scale[2], minimum[2];
    DS4_DEVICE ScaledCodes(uint32_t scales, uint32_t minima)
        : scale{low_twice(scales), high_twice(scales)}, minimum{low_twice(minima), high_twice(minima)} {}
    DS4_DEVICE void put(HalfFragment& out, uint32_t half, uint32_t codes) const {
        out.a[half] = fma_halves(sub_halves(first_bytes(codes), kHalf1024), scale[half], minimum[half]);
        out.a[2 + half] = fma_halves(sub_halves(last_bytes(codes), kHalf1024), scale[half], minimum[half]);
    }
};

template <>
struct HalfStage<tiles::Layout::q2_k> {
    static constexpr float kScale = 1;
    const uint8_t* codes;
    uint32_t minima, first_minimum;
    uint2 scales;
    uint32_t first_fragment;
    PairScales pairs;

    DS4_DEVICE HalfStage(const uint8_t* tile, uint32_t sub, const uint8_t*, uint32_t lane)
        : codes(tile + sub / 2 * 512 + 16 * lane + sub % 2 * 8),
          minima(load<uint32_t>(tile + tiles::kQ2kMins + 4 * ((lane & ~3u) + sub))),
          first_minimum(lane % 4 / 2 * 16),
          scales(load<uint2>(tile + tiles::kQ2kScales + lane / 4 * 16 + lane % 4 / 2 * 8)),
          first_fragment(8 * sub),
          pairs(tile + tiles::kQ2kD, lane) {}

    struct Part {
        uint32_t codes;
        ScaledCodes scaled;
        template <uint32_t step>
        DS4_DEVICE HalfFragment fragment() const {
            HalfFragment out;
            scaled.put(out, 0, codes >> (4 * step) & 0x03030303u);
            scaled.put(out, 1, codes >> (4 * step + 2) & 0x03030303u);
            return out;
        }
    };
    template <uint32_t f>
    DS4_DEVICE Part part() const {
        const uint32_t shift = first_fragment + 4 * f, minimum_shift = first_minimum + 8 * f;
        const uint32_t scale = small_halves((scales.x >> shift & 15u) | (scales.y >> shift & 15u) << 16);
        const uint32_t minimum =
            small_halves((minima >> minimum_shift & 15u) | (minima >> (minimum_shift + 4) & 15u) << 16);
        return {load<uint32_t>(codes + 4 * f),
                ScaledCodes(mul_halves(scale, pairs.d), mul_halves(minimum, pairs.dmin ^ 0x80008000u))};
    }
};

template <>
struct HalfStage<tiles::Layout::q4_k> {
    static constexpr float kScale = 1;
    const uint8_t* codes;
    uint32_t scales[2], minima[2];  // rows g, g + 8; bytes f of the stage
    PairScales pairs;

    DS4_DEVICE HalfStage(const uint8_t* tile, uint32_t sub, const uint8_t*, uint32_t lane)
        : codes(tile + 512 * sub + 16 * lane), pairs(tile + tiles::kQ4kD, lane) {
        const uint8_t* packed = tile + tiles::kQ4kScales + lane / 4 * 8;
        const uint2 first = load<uint2>(packed), second = load<uint2>(packed + 64),
                    third = load<uint2>(packed + 128);
        unpack(first.x, second.x, third.x, sub, 0);
        unpack(first.y, second.y, third.y, sub, 1);
    }

    struct Part {
        uint2 codes;
        ScaledCodes scaled;
        template <uint32_t step>
        DS4_DEVICE HalfFragment fragment() const {
            const uint32_t word = step == 0 ? codes.x : codes.y;
            HalfFragment out;
            scaled.put(out, 0, word & 0x0f0f0f0fu);
            scaled.put(out, 1, word >> 4 & 0x0f0f0f0fu);
            return out;
        }
    };
    template <uint32_t f>
    DS4_DEVICE Part part() const {
        return {load<uint2>(codes + 8 * f),
                ScaledCodes(mul_halves(pair_of(scales, f), pairs.d),
                            mul_halves(pair_of(minima, f), pairs.dmin ^ 0x80008000u))};
    }

  private:
    DS4_DEVICE void unpack(uint32_t first, uint32_t second, uint32_t third, uint32_t sub, uint32_t half) {
        const uint32_t s = sub < 2 ? first & 0x3f3f3f3fu : (third & 0x0f0f0f0fu) | (first >> 2 & 0x30303030u);
        const uint32_t m =
            sub < 2 ? second & 0x3f3f3f3fu : (third >> 4 & 0x0f0f0f0fu) | (second >> 2 & 0x30303030u);
        scales[half] = s >> (sub % 2 * 16);
        minima[half] = m >> (sub % 2 * 16);
    }
    // Byte f of both words as halves.
    static DS4_DEVICE uint32_t pair_of(const uint32_t (&words)[2], uint32_t f) {
        const uint32_t pair = permute(words[0], words[1], f == 0 ? 0x0400u : 0x0501u);
        return small_halves(pair & 0x00ff00ffu);
    }
};

}  // namespace ds4::gpu::cuda
