#pragma once

#include "backend/gpu/cuda/half_math.h"
#include "backend/gpu/kernels/kv_rows.h"

// Stored rows of the KV state (kernels/kv_rows.h) as halves for the matrix units. Values on the FP8 and FP4
// grids are exact in F16 (of blocks below 2^-14 the smallest codes round); others round to nearest.
namespace ds4::gpu::cuda {

// The 4 n bytes at any address, as words.
template <int n>
DS4_DEVICE void load_words(const uint8_t* p, uint32_t (&out)[n]) {
    const uint32_t misplaced = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p) & 3);
    const uint32_t* words = reinterpret_cast<const uint32_t*>(p - misplaced);
    uint32_t w[n + 1];
#pragma unroll
    for (int i = 0; i < n; ++i) w[i] = words[i];
    w[n] = misplaced != 0 ? words[n] : 0;
#pragma unroll
    for (int i = 0; i < n; ++i) out[i] = __funnelshift_r(w[i], w[i + 1], 8 * misplaced);
}

DS4_DEVICE uint32_t half_twice(float x) {
    return pack_halves(x, x);
}

// Codes in the low bytes of both halves of `pair`; as decode_e4m3, but 2^-8 times as much.
DS4_DEVICE uint32_t small_e4m3_pair(uint32_t pair) {
    return (pair & 0x00800080u) << 8 | (pair & 0x007f007fu) << 7;
}
// Four codes times scale.
DS4_DEVICE void e4m3_halves(uint32_t codes, uint32_t scale, uint32_t& first, uint32_t& second) {
    first = multiply_halves(small_e4m3_pair(permute(codes, 0, 0x4140)), scale);
    second = multiply_halves(small_e4m3_pair(permute(codes, 0, 0x4342)), scale);
}

// Eight codes of four bits, the lower nibble first, times scale.
DS4_DEVICE void e2m1_halves(uint32_t codes, uint32_t scale, uint32_t (&out)[4]) {
    // The upper bytes of 0, 0.5, 1, 1.5, 2, 3, 4, 6 as halves; their lower bytes are 0.
    constexpr uint32_t kLow = 0x3e3c3800u, kHigh = 0x46444240u;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t four = codes >> (16 * i);
        const uint32_t bytes = permute(kLow, kHigh, four & 0x7777u) | (four & 0x0008u) << 4 |
                               (four & 0x0080u) << 8 | (four & 0x0800u) << 12 | (four & 0x8000u) << 16;
        out[2 * i] = multiply_halves(permute(bytes, 0, 0x1404), scale);
        out[2 * i + 1] = multiply_halves(permute(bytes, 0, 0x3424), scale);
    }
}

// Dims 8 group .. 8 group + 7 of an FP8 row, on the way.
struct PackedGroup {
    uint32_t words[4];  // two of codes, or four of the tail
    uint32_t scale;     // of codes
    bool is_tail;
};

// The first `n_codes` dims are codes.
DS4_DEVICE PackedGroup load_fp8_group(uint32_t n_codes, const uint8_t* row, uint32_t group) {
    PackedGroup out;
    out.is_tail = 8 * group >= n_codes;
    const uint8_t* from = row + n_codes / kFp8Block + 8 * group + (out.is_tail ? 8 * group - n_codes : 0);
    const auto misplaced = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(from) & 3);
    const uint32_t* words = reinterpret_cast<const uint32_t*>(from - misplaced);
    uint32_t w[5] = {words[0], words[1], 0, 0, 0};
    if (out.is_tail || misplaced != 0) w[2] = words[2];
    if (out.is_tail) w[3] = words[3];
    if (out.is_tail && misplaced != 0) w[4] = words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) out.words[i] = __funnelshift_r(w[i], w[i + 1], 8 * misplaced);
    out.scale = row[out.is_tail ? 0 : 8 * group / kFp8Block];
    return out;
}
DS4_DEVICE uint4 halves_of(const PackedGroup& g) {
    uint4 out = make_uint4(g.words[0], g.words[1], g.words[2], g.words[3]);
    if (g.is_tail) return out;
    const uint32_t scale = half_twice(e8m0(g.scale) * 256.0f);
    e4m3_halves(g.words[0], scale, out.x, out.y);
    e4m3_halves(g.words[1], scale, out.z, out.w);
    return out;
}

DS4_DEVICE uint4 halves_of(float4 a, float4 b) {
    return make_uint4(pack_halves(a.x, a.y), pack_halves(a.z, a.w), pack_halves(b.x, b.y),
                      pack_halves(b.z, b.w));
}

// The same of a row of f32 at an address that is a multiple of 16.
struct PlainGroup {
    float4 a, b;
};
DS4_DEVICE PlainGroup load_plain_group(const uint8_t* row, uint32_t group) {
    const float4* from = reinterpret_cast<const float4*>(row) + 2 * group;
    return {__ldcg(from), __ldcg(from + 1)};
}
DS4_DEVICE uint4 halves_of(const PlainGroup& g) {
    return halves_of(g.a, g.b);
}

// Dims 8 group .. 8 group + 7 of a stored row of any format.
DS4_DEVICE uint4 stored_halves(const KvFormatArgs& f, const uint8_t* row, uint32_t group) {
    if (f.code == kKvFp8) return halves_of(load_fp8_group(f.width - f.n_tail, row, group));
    uint32_t out[4];
    if (f.code == kKvF16) {
        load_words(row + 16 * group, out);
    } else if (f.code == kKvFp4) {
        uint32_t codes[1];
        load_words(row + f.width / 32 + 4 * group, codes);
        e2m1_halves(codes[0], half_twice(e8m0(row[group / 4])), out);
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            out[i] = pack_halves(load_kv(f, row, 8 * group + 2 * i), load_kv(f, row, 8 * group + 2 * i + 1));
        }
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
}

}  // namespace ds4::gpu::cuda
