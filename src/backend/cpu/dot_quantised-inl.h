// The products of quantised weights. Included once per instruction set, as dot_kernels-inl.h.
//
// Few activation rows: a chunk of a weight row is decoded into registers and meets all of them at once.
// Many: blocks of weight rows are decoded into a panel that stays in the first-level cache, and the
// activation rows pass by. A lane's operations are the same either way.
#if defined(DS4_DOT_QUANTISED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_QUANTISED_INL_H
#undef DS4_DOT_QUANTISED_INL_H
#else
#define DS4_DOT_QUANTISED_INL_H
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_chunk.h"
#include "hwy/base.h"

DS4_KERNELS_BEGIN

// ---- Chunks of weight rows

// The chunks of a row. The last one may go on behind the end of the row, into the next: its lanes from there
// on hold anything. Nothing behind `end`, the end of all rows, is read.
template <class Format>
class ChunksOfRow {
  public:
    static constexpr std::size_t kBytes = kChunk / Format::kBlockValues * Format::kBlockBytes;

    HWY_INLINE ChunksOfRow(const std::byte* w, std::size_t n, const std::byte* end)
        : w_(w), n_groups_(n / kGroup), n_in_place_(chunks_of(n)) {
        if (w + n_in_place_ * kBytes <= end) return;
        --n_in_place_;
        const std::byte* last = w + n_in_place_ * kBytes;
        std::memset(padded_, 0, kBytes);
        std::memcpy(padded_, last, static_cast<std::size_t>(end - last));
    }

    std::size_t size() const { return chunks_of(n_groups_ * kGroup); }

    HWY_INLINE const std::byte* operator[](std::size_t c) const {
        return c < n_in_place_ ? w_ + c * kBytes : padded_;
    }

    // The lanes of part p of chunk c that belong to the row.
    HWY_INLINE LaneMask lanes(std::size_t c, std::size_t p) const {
        const std::size_t before = c * kLanes + p * kPartLanes;
        return first_lanes(n_groups_ > before ? n_groups_ - before : 0);
    }

  private:
    const std::byte* w_;
    std::size_t n_groups_, n_in_place_;
    std::byte padded_[kBytes];
};

// ---- Few activation rows

inline constexpr std::size_t kFewActs = 4;

inline const ActivationChunk* chunks_of_row(const Activations& x, std::size_t r) {
    return reinterpret_cast<const ActivationChunk*>(x.row(r));
}

// Adds the product of part p of a chunk to these of its lanes.
template <bool kAffine>
HWY_INLINE void add_part(const WeightPart<kAffine>& w, const ActivationChunk& act, std::size_t p,
                         LaneMask lanes, F32& sums) {
    I32 dots[4] = {start_dot<!kAffine>(load_sums(act, p)), zero_i32(), zero_i32(), zero_i32()};
    for (std::size_t j = 0; j < 8; ++j) {
        dots[j % 4] = dot_add<!kAffine>(dots[j % 4], w.code[j], load_codes(act.code + j * kRegister, p));
    }
    F32 t = mul(to_f32(add(add(dots[0], dots[1]), add(dots[2], dots[3]))), w.scale);
    if constexpr (kAffine) {
        t = neg_mul_add(to_f32(pair_dot(w.minimum, load_sums(act, p))), w.minimum_scale, t);
    }
    sums = mul_add_lanes(t, load_f32(act.scale, p), sums, lanes);
}

template <class Format, std::size_t kActs>
HWY_NOINLINE void dot_rows(const WeightRows& w, const std::byte* end, const Activations& x, float* y,
                           std::size_t y_stride) {
    const ActivationChunk* acts[kActs];
    for (std::size_t r = 0; r < kActs; ++r) acts[r] = chunks_of_row(x, r);
    for (std::size_t o = 0; o < w.n; ++o) {
        F32 sums[kActs][kParts];
        for (auto& row : sums) {
            for (auto& sum : row) sum = zero_f32();
        }
        const ChunksOfRow<Format> chunks(w.row(o), w.width, end);
        for (std::size_t c = 0; c < chunks.size(); ++c) {
            prefetch<kOnce>(w.row(o) + c * chunks.kBytes + kPrefetchAhead, chunks.kBytes);
            for (std::size_t p = 0; p < kParts; ++p) {
                WeightPart<Format::kAffine> part;
                Format::decode(chunks[c], p, part);
                const LaneMask lanes = chunks.lanes(c, p);
                for (std::size_t r = 0; r < kActs; ++r) add_part(part, acts[r][c], p, lanes, sums[r][p]);
            }
        }
        for (std::size_t r = 0; r < kActs; ++r) y[r * y_stride + o] = add_tree(sums[r]);
    }
}

template <class Format>
void multiply_few(const WeightRows& w, const std::byte* end, Activations x, float* y, std::size_t y_stride) {
    // Activation rows stay in the first-level cache: two of width 8192.
    for (; x.n >= 3 && w.width > 4096; x = x.slice(2, x.n - 2), y += 2 * y_stride) {
        dot_rows<Format, 2>(w, end, x, y, y_stride);
    }
    for (; x.n >= 4; x = x.slice(4, x.n - 4), y += 4 * y_stride) {
        dot_rows<Format, 4>(w, end, x, y, y_stride);
    }
    if (x.n == 3) dot_rows<Format, 3>(w, end, x, y, y_stride);
    if (x.n == 2) dot_rows<Format, 2>(w, end, x, y, y_stride);
    if (x.n == 1) dot_rows<Format, 1>(w, end, x, y, y_stride);
}

// ---- Many activation rows

// What lies in the first-level cache beside a few activation rows: this many decoded chunks of kBlockRows
// rows (18 KiB, with minima 22), so that longer rows are multiplied a stretch at a time.
inline constexpr std::size_t kPanelBlocks = 8;
// What lies in the second: 640 KiB of activations.
inline constexpr std::size_t kPanelActs = 128;

// A decoded chunk of kBlockRows weight rows, side by side.
template <bool kAffine>
struct alignas(kRegister) WeightBlock {
    std::uint8_t code[8][kBlockRows][kRegister];
    float scale[kBlockRows][kLanes];
};
template <>
struct alignas(kRegister) WeightBlock<true> {
    std::uint8_t code[8][kBlockRows][kRegister];
    float scale[kBlockRows][kLanes];
    std::int16_t minimum[kBlockRows][kLanes][2];
    float minimum_scale[kBlockRows][kLanes];
};

// The sums of an activation row between two stretches.
struct alignas(kRegister) LaneSums {
    float lane[kBlockRows][kLanes];
};

// Chunks [first, last) of the n_chunks of all rows.
struct Stretch {
    std::size_t first, last, n_chunks;

    std::size_t size() const { return last - first; }
};

// A stretch of a row to column o of the blocks. ahead: bytes from here to the same of the next panel, whose
// weights are asked for: while the blocks are multiplied the memory would be idle.
template <class Format>
HWY_NOINLINE void decode_row(const std::byte* w, std::size_t n, const std::byte* end, std::size_t ahead,
                             const Stretch& stretch, std::size_t o, WeightBlock<Format::kAffine>* block) {
    const ChunksOfRow<Format> chunks(w, n, end);
    for (std::size_t c = stretch.first; c < stretch.last; ++c, ++block) {
        prefetch<kLevel2>(w + c * chunks.kBytes + ahead, chunks.kBytes);
        for (std::size_t p = 0; p < kParts; ++p) {
            WeightPart<Format::kAffine> part;
            Format::decode(chunks[c], p, part);
            for (std::size_t j = 0; j < 8; ++j) store_codes(part.code[j], block->code[j][o], p);
            const LaneMask lanes = chunks.lanes(c, p);
            store_f32(zero_but(part.scale, lanes), block->scale[o], p);
            if constexpr (Format::kAffine) {
                store_pairs(part.minimum, block->minimum[o], p);
                store_f32(zero_but(part.minimum_scale, lanes), block->minimum_scale[o], p);
            }
        }
    }
}

// Adds part p of the products of a block's rows with kActs activation rows; a lane's operations are those of
// add_part.
template <bool kAffine, std::size_t kActs>
HWY_INLINE void add_block(const WeightBlock<kAffine>& block, const ActivationChunk* const* acts,
                          std::size_t c, std::size_t p, F32 (&sums)[kActs][kBlockRows]) {
    I32 dots[kActs][kBlockRows];
    for (std::size_t r = 0; r < kActs; ++r) {
        const I32 start = start_dot<!kAffine>(load_sums(acts[r][c], p));
        for (std::size_t o = 0; o < kBlockRows; ++o) dots[r][o] = start;
    }
    for (std::size_t j = 0; j < 8; ++j) {
        Codes w[kBlockRows];
        for (std::size_t o = 0; o < kBlockRows; ++o) w[o] = load_codes(block.code[j][o], p);
        for (std::size_t r = 0; r < kActs; ++r) {
            const Codes act = load_codes(acts[r][c].code + j * kRegister, p);
            for (std::size_t o = 0; o < kBlockRows; ++o) {
                dots[r][o] = dot_add<!kAffine>(dots[r][o], w[o], act);
            }
        }
    }
    for (std::size_t r = 0; r < kActs; ++r) {
        const F32 act_scale = load_f32(acts[r][c].scale, p);
        for (std::size_t o = 0; o < kBlockRows; ++o) {
            F32 t = mul(to_f32(dots[r][o]), load_f32(block.scale[o], p));
            if constexpr (kAffine) {
                const I32 m = pair_dot(load_pairs(block.minimum[o], p), load_sums(acts[r][c], p));
                t = neg_mul_add(to_f32(m), load_f32(block.minimum_scale[o], p), t);
            }
            sums[r][o] = mul_add(t, act_scale, sums[r][o]);
        }
    }
}

// A stretch of the products of kBlockRows rows with kActs activation rows. carried: the sums (kActs) of the
// stretch before and for the next.
template <bool kAffine, std::size_t kActs>
HWY_NOINLINE void multiply_block(const WeightBlock<kAffine>* blocks, const Stretch& stretch,
                                 const Activations& x, LaneSums* carried, float* y, std::size_t y_stride) {
    const ActivationChunk* acts[kActs];
    for (std::size_t r = 0; r < kActs; ++r) acts[r] = chunks_of_row(x, r) + stretch.first;
    F32 sums[kParts][kActs][kBlockRows];
    for (std::size_t p = 0; p < kParts; ++p) {
        for (std::size_t r = 0; r < kActs; ++r) {
            for (std::size_t o = 0; o < kBlockRows; ++o) {
                sums[p][r][o] = stretch.first == 0 ? zero_f32() : load_f32(carried[r].lane[o], p);
            }
        }
        for (std::size_t c = 0; c < stretch.size(); ++c) {
            add_block<kAffine, kActs>(blocks[c], acts, c, p, sums[p]);
        }
    }
    for (std::size_t r = 0; r < kActs; ++r) {
        F32 lanes[kBlockRows][kParts];
        for (std::size_t o = 0; o < kBlockRows; ++o) {
            for (std::size_t p = 0; p < kParts; ++p) lanes[o][p] = sums[p][r][o];
        }
        if (stretch.last == stretch.n_chunks) {
            store_trees(lanes, y + r * y_stride);
            continue;
        }
        for (std::size_t o = 0; o < kBlockRows; ++o) {
            for (std::size_t p = 0; p < kParts; ++p) store_f32(lanes[o][p], carried[r].lane[o], p);
        }
    }
}

// A stretch of n_blocks blocks of rows with all activation rows, a few at a time.
template <bool kAffine>
void multiply_panel(const WeightBlock<kAffine>* blocks, std::size_t n_blocks, const Stretch& stretch,
                    Activations x, LaneSums* carried, float* y, std::size_t y_stride) {
    while (x.n != 0) {
        // Not all but one and then that one.
        const std::size_t n = x.n == kBlockActs + 1 ? (x.n + 1) / 2 : std::min(x.n, kBlockActs);
        for (std::size_t b = 0; b < n_blocks; ++b) {
            const WeightBlock<kAffine>* block = blocks + b * stretch.size();
            float* out = y + b * kBlockRows;
            if constexpr (kBlockActs >= 3) {
                if (n == 3) multiply_block<kAffine, 3>(block, stretch, x, carried, out, y_stride);
            }
            if (n == 2) multiply_block<kAffine, 2>(block, stretch, x, carried, out, y_stride);
            if (n == 1) multiply_block<kAffine, 1>(block, stretch, x, carried, out, y_stride);
        }
        x = x.slice(n, x.n - n);
        carried += n;
        y += n * y_stride;
    }
}

// The products with at most kPanelActs activation rows. w.n is a multiple of kBlockRows.
template <class Format>
HWY_NOINLINE void multiply_panels(const WeightRows& w, const std::byte* end, const Activations& x, float* y,
                                  std::size_t y_stride) {
    WeightBlock<Format::kAffine> blocks[kPanelBlocks];
    LaneSums carried[kPanelActs];
    const std::size_t n_chunks = chunks_of(w.width);
    const std::size_t panel_rows = std::max<std::size_t>(kPanelBlocks / n_chunks, 1) * kBlockRows;
    for (std::size_t row = 0; row < w.n; row += panel_rows) {
        const std::size_t n_rows = std::min(panel_rows, w.n - row);
        for (std::size_t c = 0; c < n_chunks; c += kPanelBlocks) {
            const Stretch stretch{c, std::min(c + kPanelBlocks, n_chunks), n_chunks};
            for (std::size_t o = 0; o < n_rows; ++o) {
                decode_row<Format>(w.row(row + o), w.width, end, panel_rows * w.row_bytes, stretch,
                                   o % kBlockRows, blocks + o / kBlockRows * stretch.size());
            }
            multiply_panel<Format::kAffine>(blocks, n_rows / kBlockRows, stretch, x, carried, y + row,
                                            y_stride);
        }
    }
}

template <class Format>
void multiply_quantised(WeightRows w, const Activations& x, float* y, std::size_t y_stride) {
    if (w.n == 0) return;
    const std::byte* end = w.row(w.n - 1) + w.width / Format::kBlockValues * Format::kBlockBytes;
    if (x.n > kFewActs) {
        const std::size_t n_rows = w.n / kBlockRows * kBlockRows;
        for (std::size_t r = 0; r < x.n; r += kPanelActs) {
            multiply_panels<Format>(w.slice(0, n_rows), end, x.slice(r, std::min(kPanelActs, x.n - r)),
                                    y + r * y_stride, y_stride);
        }
        w = w.slice(n_rows, w.n - n_rows);
        y += n_rows;
    }
    multiply_few<Format>(w, end, x, y, y_stride);
}

DS4_KERNELS_END

#endif  // per-target include guard
