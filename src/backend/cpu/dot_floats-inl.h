// The products of float weights with f32 activations: value i goes to chain i % 32. Included once per
// instruction set, as dot_kernels-inl.h.
#if defined(DS4_DOT_FLOATS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_FLOATS_INL_H
#undef DS4_DOT_FLOATS_INL_H
#else
#define DS4_DOT_FLOATS_INL_H
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_chunk.h"
#include "hwy/base.h"

DS4_KERNELS_BEGIN

// A stretch of kFloatRows rows, 8 KiB each, stays in the first-level cache while activation rows pass by, and
// these stay in the second.
inline constexpr std::size_t kFloatStretchBytes = std::size_t{8} << 10;
inline constexpr std::size_t kFloatPanelBytes = std::size_t{512} << 10;
inline constexpr std::size_t kFloatPanelActs = 30;  // at most

// The sums of an activation row with kFloatRows rows between two stretches.
struct alignas(kRegister) ChainSums {
    float chain[kFloatRows][2 * kLanes];
};

// Values [first, last) of all rows.
struct ValueStretch {
    std::size_t first, last, width;
};

// What is left of a stretch after its last 32 values, padded with zeroes: nothing behind a row is read.
template <class Format, std::size_t kRows, std::size_t kActs, std::size_t kRegisters>
HWY_INLINE void add_rest(const WeightRows& w, const Activations& x, std::size_t first,
                         F32 (&sums)[kRows][kActs][kRegisters]) {
    for (std::size_t s = 0, i = first; i < w.width; i += kPartLanes, ++s) {
        const std::size_t count = std::min(kPartLanes, w.width - i);
        F32 weights[kRows];
        for (std::size_t o = 0; o < kRows; ++o) {
            std::byte padded[kPartLanes * Format::kBytes] = {};
            std::memcpy(padded, w.row(o) + i * Format::kBytes, count * Format::kBytes);
            weights[o] = Format::load(padded);
        }
        for (std::size_t r = 0; r < kActs; ++r) {
            std::byte padded[kPartLanes * sizeof(float)] = {};
            std::memcpy(padded, x.row(r) + i * sizeof(float), count * sizeof(float));
            const F32 act = load_f32_bytes(padded);
            for (std::size_t o = 0; o < kRows; ++o) sums[o][r][s] = mul_add(weights[o], act, sums[o][r][s]);
        }
    }
}

// A stretch of the products of kRows rows with kActs activation rows. carried: the sums (kActs) of the
// stretch before and for the next.
template <class Format, std::size_t kRows, std::size_t kActs>
HWY_NOINLINE void multiply_float_block(const WeightRows& w, const Activations& x, const ValueStretch& stretch,
                                       ChainSums* carried, float* y, std::size_t y_stride) {
    constexpr std::size_t kRegisters = 2 * kParts;  // that hold the 32 chains
    F32 sums[kRows][kActs][kRegisters];
    for (std::size_t o = 0; o < kRows; ++o) {
        for (std::size_t r = 0; r < kActs; ++r) {
            for (std::size_t s = 0; s < kRegisters; ++s) {
                sums[o][r][s] =
                    stretch.first == 0 ? zero_f32() : load_f32(carried[r].chain[o] + s * kPartLanes, 0);
            }
        }
    }
    std::size_t i = stretch.first;
    for (; i + 2 * kLanes <= stretch.last; i += 2 * kLanes) {
        if constexpr (kRows == 1) {
            prefetch<kOnce>(w.data + i * Format::kBytes + kPrefetchAhead, 2 * kLanes * Format::kBytes);
        }
        for (std::size_t s = 0; s < kRegisters; ++s) {
            const std::size_t at = i + s * kPartLanes;
            F32 weights[kRows];
            for (std::size_t o = 0; o < kRows; ++o) weights[o] = Format::load(w.row(o) + at * Format::kBytes);
            for (std::size_t r = 0; r < kActs; ++r) {
                const F32 act = load_f32_bytes(x.row(r) + at * sizeof(float));
                for (std::size_t o = 0; o < kRows; ++o)
                    sums[o][r][s] = mul_add(weights[o], act, sums[o][r][s]);
            }
        }
    }
    const bool last = stretch.last == stretch.width;
    if (last && i < stretch.last) add_rest<Format>(w, x, i, sums);
    for (std::size_t o = 0; o < kRows; ++o) {
        for (std::size_t r = 0; r < kActs; ++r) {
            if (!last) {
                for (std::size_t s = 0; s < kRegisters; ++s)
                    store_f32(sums[o][r][s], carried[r].chain[o] + s * kPartLanes, 0);
                continue;
            }
            F32 lanes[kParts];
            for (std::size_t p = 0; p < kParts; ++p) lanes[p] = add(sums[o][r][p], sums[o][r][kParts + p]);
            y[r * y_stride + o] = add_tree(lanes);
        }
    }
}

template <class Format, std::size_t kRows>
HWY_INLINE void multiply_float_acts(const WeightRows& w, const Activations& x, const ValueStretch& stretch,
                                    ChainSums* carried, float* y, std::size_t y_stride) {
    if constexpr (kFloatActs >= 3) {
        if (x.n == 3) multiply_float_block<Format, kRows, 3>(w, x, stretch, carried, y, y_stride);
    }
    if (x.n == 2) multiply_float_block<Format, kRows, 2>(w, x, stretch, carried, y, y_stride);
    if (x.n == 1) multiply_float_block<Format, kRows, 1>(w, x, stretch, carried, y, y_stride);
}

// The products of kFloatRows rows with at most kFloatPanelActs activation rows.
template <class Format>
void multiply_float_panel(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    ChainSums carried[kFloatPanelActs];
    constexpr std::size_t kStretch = kFloatStretchBytes / Format::kBytes;
    // Every few activation rows ask for a share of the next panel's weights.
    const std::byte* next = w.row(kFloatRows);
    const std::size_t n_shares = (w.width + kStretch - 1) / kStretch * ((x.n + kFloatActs - 1) / kFloatActs);
    const std::size_t share = (kFloatRows * w.row_bytes / n_shares + 63) / 64 * 64;
    for (std::size_t i = 0; i < w.width; i += kStretch) {
        const ValueStretch stretch{i, std::min(i + kStretch, w.width), w.width};
        for (std::size_t r = 0; r < x.n; r += kFloatActs, next += share) {
            prefetch<kLevel2>(next, share);
            multiply_float_acts<Format, kFloatRows>(w, x.slice(r, std::min(kFloatActs, x.n - r)), stretch,
                                                    carried + r, y + r * y_stride, y_stride);
        }
    }
}

// Few activation rows read the weights once, row by row; so do the rows that make no block, and empty ones.
template <class Format>
void multiply_floats(const WeightRows& w, const Activations& x, float* y, std::size_t y_stride) {
    const bool few = x.n <= kFloatActs || w.width == 0;
    const std::size_t n_rows = few ? 0 : w.n / kFloatRows * kFloatRows;
    if (n_rows != 0) {
        const std::size_t fit = kFloatPanelBytes / (w.width * sizeof(float));
        const std::size_t n_acts = std::clamp(fit / kFloatActs * kFloatActs, kFloatActs, kFloatPanelActs);
        for (std::size_t r = 0; r < x.n; r += n_acts) {
            const Activations acts = x.slice(r, std::min(n_acts, x.n - r));
            for (std::size_t o = 0; o < n_rows; o += kFloatRows) {
                multiply_float_panel<Format>(w.slice(o, kFloatRows), acts, y + r * y_stride + o, y_stride);
            }
        }
    }
    ChainSums carried[kFloatActs];  // not used: the stretch is the row
    for (std::size_t o = n_rows; o < w.n; ++o) {
        for (std::size_t r = 0; r < x.n; r += kFloatActs) {
            multiply_float_acts<Format, 1>(w.slice(o, 1), x.slice(r, std::min(kFloatActs, x.n - r)),
                                           {0, w.width, w.width}, carried, y + r * y_stride + o, y_stride);
        }
    }
}

DS4_KERNELS_END

#endif  // per-target include guard
