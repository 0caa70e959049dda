#include "backend/cpu/index_packed.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/simd_config.h"
#include "quant/float_bits.h"
#include "quant/rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/index_packed.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

constexpr std::size_t kBlock = quant::kFp4Block;

// One block of a query; returns the sum of its codes.
HWY_INLINE std::int32_t pack_block(const float* q, std::int8_t* codes, float* scale) {
    const hn::RebindToSigned<DF> words;
    const hn::Rebind<std::int8_t, DF> bytes;
    auto top = hn::Zero(DF());
    for (std::size_t i = 0; i < kBlock; i += kLanes) top = hn::Max(top, hn::Abs(load(q + i)));
    const float amax = std::max(hn::GetLane(hn::MaxOfLanes(DF(), top)), quant::kFp4Floor);
    *scale = quant::e8m0_to_f32(quant::scale_exponent(amax, quant::kFp4Max));
    const VF factor = hn::Set(DF(), 2.0F / *scale);
    auto sum = hn::Zero(words);
    for (std::size_t i = 0; i < kBlock; i += kLanes) {
        const auto code = hn::NearestInt(hn::Mul(load(q + i), factor));
        sum = hn::Add(sum, code);
        hn::StoreU(hn::DemoteTo(bytes, code), bytes, codes + i);
    }
    return hn::GetLane(hn::SumOfLanes(words, sum));
}

void PackIndexQuery(const float* q, std::size_t n, const PackedIndexQuery& out) {
    for (std::size_t b = 0; b < n / kBlock; ++b) {
        const std::int32_t sum = pack_block(q + b * kBlock, out.codes + b * kBlock, out.scale + b);
        out.offset[b] = -kKeyOffset * sum;
    }
}

// Twice the value of an FP4 code plus kKeyOffset.
HWY_ALIGN constexpr std::uint8_t kCodes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE void pack_key_codes(const std::byte* const* rows, std::size_t head_dim, std::size_t skip,
                               std::uint8_t* codes) {
    for (std::size_t k = 0; k < kIndexKeys; ++k) {
        for (std::size_t i = 0; i < head_dim; ++i) {
            const auto pair = static_cast<unsigned>(rows[k][skip + i / 2]);
            codes[(i / 4 * kIndexKeys + k) * 4 + i % 4] = kCodes[i % 2 == 0 ? pair & 15 : pair >> 4];
        }
    }
}

#else

// Block by block: 32 values of four keys become eight vectors of four keys with four values each.
HWY_INLINE void pack_key_codes(const std::byte* const* rows, std::size_t head_dim, std::size_t skip,
                               std::uint8_t* codes) {
    const hn::Full128<std::uint8_t> bytes;
    const hn::Full128<std::uint32_t> fours;
    const hn::Full128<std::uint64_t> pairs;
    const hn::Full128<std::uint16_t> shorts;
    const auto table = hn::Load(bytes, kCodes);
    const auto low_half = hn::Set(bytes, 15);
    const auto transpose = [&](const auto(&row)[4], std::uint8_t* out) HWY_ATTR {
        const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(fours, row[0], row[1]));
        const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(fours, row[0], row[1]));
        const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(fours, row[2], row[3]));
        const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(fours, row[2], row[3]));
        constexpr std::size_t kStep = kIndexKeys * 4;
        hn::StoreU(hn::BitCast(bytes, hn::InterleaveLower(pairs, low01, low23)), bytes, out);
        hn::StoreU(hn::BitCast(bytes, hn::InterleaveUpper(pairs, low01, low23)), bytes, out + kStep);
        hn::StoreU(hn::BitCast(bytes, hn::InterleaveLower(pairs, high01, high23)), bytes, out + 2 * kStep);
        hn::StoreU(hn::BitCast(bytes, hn::InterleaveUpper(pairs, high01, high23)), bytes, out + 3 * kStep);
    };
    for (std::size_t k = 0; k < kIndexKeys; k += 4) {
        for (std::size_t i = 0; i < head_dim; i += kBlock) {
            decltype(hn::Zero(fours)) first[4];
            decltype(hn::Zero(fours)) second[4];
            for (std::size_t j = 0; j < 4; ++j) {
                const auto* row = reinterpret_cast<const std::uint8_t*>(rows[k + j]) + skip + i / 2;
                const auto packed = hn::LoadU(bytes, row);
                const auto low = hn::TableLookupBytes(table, hn::And(packed, low_half));
                const auto shifted = hn::BitCast(bytes, hn::ShiftRight<4>(hn::BitCast(shorts, packed)));
                const auto high = hn::TableLookupBytes(table, hn::And(shifted, low_half));
                first[j] = hn::BitCast(fours, hn::InterleaveLower(bytes, low, high));
                second[j] = hn::BitCast(fours, hn::InterleaveUpper(bytes, low, high));
            }
            transpose(first, codes + i * kIndexKeys + k * 4);
            transpose(second, codes + (i + kBlock / 2) * kIndexKeys + k * 4);
        }
    }
}

#endif

void PackIndexKeys(const std::byte* const* rows, std::size_t head_dim, const PackedIndexKeys& out) {
    const std::size_t n_blocks = head_dim / kBlock;
    for (std::size_t b = 0; b < n_blocks; ++b) {
        for (std::size_t k = 0; k < kIndexKeys; ++k) {
            out.scale[b * kIndexKeys + k] = 0.25F * quant::e8m0_to_f32(static_cast<std::uint8_t>(rows[k][b]));
        }
    }
    pack_key_codes(rows, head_dim, n_blocks, out.codes);
}

// ---- scores

#if HWY_TARGET == HWY_SCALAR

void PackedIndexScores(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                       std::size_t head_dim, const PackedIndexKeys& keys, bool /*vnni*/, float* scores) {
    const std::size_t n_blocks = head_dim / kBlock;
    for (std::size_t k = 0; k < kIndexKeys; ++k) {
        float total = 0;
        for (std::size_t h = 0; h < n_heads; ++h) {
            float dot = 0;
            for (std::size_t b = 0; b < n_blocks; ++b) {
                std::int32_t sum = q.offset[h * n_blocks + b];
                for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
                    sum += q.codes[h * head_dim + i] * keys.codes[(i / 4 * kIndexKeys + k) * 4 + i % 4];
                }
                const float scaled = static_cast<float>(sum) * keys.scale[b * kIndexKeys + k];
                dot += scaled * q.scale[h * n_blocks + b];
            }
            total += weight[h] * std::max(dot, 0.0F);
        }
        scores[k] = total;
    }
}

#else

using D32 = hn::RebindToSigned<DF>;
using D16 = hn::Repartition<std::int16_t, DF>;
using D8 = hn::Repartition<std::int8_t, DF>;
using V16 = hn::Vec<D16>;

// Heads and vectors of keys whose sums stay in registers.
constexpr std::size_t kVectors = 2;
constexpr std::size_t kHeads = 2;

// sum + products of two neighbouring bytes, the unsigned ones of a key and the signed ones of a query
HWY_INLINE V16 add_products(V16 sum, V16 key, V16 query) {
#if HWY_TARGET == HWY_AVX3
    return hn::Add(sum, V16{_mm512_maddubs_epi16(key.raw, query.raw)});
#elif HWY_TARGET == HWY_AVX2
    return hn::Add(sum, V16{_mm256_maddubs_epi16(key.raw, query.raw)});
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
    return hn::Add(sum, V16{_mm_maddubs_epi16(key.raw, query.raw)});
#else
    const auto even = [](V16 v) HWY_ATTR { return hn::ShiftRight<8>(hn::ShiftLeft<8>(v)); };
    const auto odd = [](V16 v) HWY_ATTR { return hn::ShiftRight<8>(v); };
    return hn::Add(sum, hn::Add(hn::Mul(even(key), even(query)), hn::Mul(odd(key), odd(query))));
#endif
}

// dots[h][v] += block b of q[h] . keys. At most 16 products of magnitude 288 meet in 16 bits.
template <std::size_t kSome>
HWY_INLINE void add_block(const std::int8_t* q, const float* scale, const std::int32_t* offset, std::size_t b,
                          std::size_t head_dim, const std::uint8_t* codes, const float* key_scale,
                          VF (&dots)[kSome][kVectors]) {
    const std::size_t n_blocks = head_dim / kBlock;
    V16 sums[kSome][kVectors];
    for (auto& of_head : sums) {
        for (V16& sum : of_head) sum = hn::Zero(D16());
    }
    for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; i += 4) {
        V16 key[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) {
            const hn::RebindToUnsigned<D8> bytes;
            key[v] = hn::BitCast(D16(), hn::LoadU(bytes, codes + i * kIndexKeys + v * kLanes * 4));
        }
        for (std::size_t h = 0; h < kSome; ++h) {
            std::int32_t four = 0;
            std::memcpy(&four, q + h * head_dim + i, sizeof four);
            const V16 query = hn::BitCast(D16(), hn::Set(D32(), four));
            for (std::size_t v = 0; v < kVectors; ++v) sums[h][v] = add_products(sums[h][v], key[v], query);
        }
    }
    for (std::size_t h = 0; h < kSome; ++h) {
        const auto base = hn::Set(D32(), offset[h * n_blocks + b]);
        const VF of_query = hn::Set(DF(), scale[h * n_blocks + b]);
        for (std::size_t v = 0; v < kVectors; ++v) {
            const auto two = hn::BitCast(D32(), sums[h][v]);
            const auto low = hn::ShiftRight<16>(hn::ShiftLeft<16>(two));
            const auto sum = hn::Add(hn::Add(low, hn::ShiftRight<16>(two)), base);
            const VF of_keys = load(key_scale + b * kIndexKeys + v * kLanes);
            // Exact up to the addition, fused or not: the scales are powers of two.
            dots[h][v] = hn::MulAdd(hn::Mul(hn::ConvertTo(DF(), sum), of_keys), of_query, dots[h][v]);
        }
    }
}

template <std::size_t kSome>
HWY_INLINE void add_heads(const std::int8_t* q, const float* scale, const std::int32_t* offset,
                          const float* weight, std::size_t head_dim, const std::uint8_t* codes,
                          const float* key_scale, VF (&totals)[kVectors]) {
    VF dots[kSome][kVectors];
    for (auto& of_head : dots) {
        for (VF& dot : of_head) dot = hn::Zero(DF());
    }
    for (std::size_t b = 0; b < head_dim / kBlock; ++b) {
        add_block<kSome>(q, scale, offset, b, head_dim, codes, key_scale, dots);
    }
    for (std::size_t h = 0; h < kSome; ++h) {
        const VF factor = hn::Set(DF(), weight[h]);
        for (std::size_t v = 0; v < kVectors; ++v) {
            // Not fused, because not every instruction set can.
            totals[v] = hn::Add(totals[v], hn::Mul(factor, hn::Max(dots[h][v], hn::Zero(DF()))));
        }
    }
}

void PackedIndexScores(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                       std::size_t head_dim, const PackedIndexKeys& keys, [[maybe_unused]] bool vnni,
                       float* scores) {
#if HWY_TARGET == HWY_AVX3
    if (vnni) return packed_index_scores_vnni(q, weight, n_heads, head_dim, keys, scores);
#endif
    static_assert(kIndexKeys % (kVectors * kLanes) == 0);
    const std::size_t n_blocks = head_dim / kBlock;
    for (std::size_t k = 0; k < kIndexKeys; k += kVectors * kLanes) {
        VF totals[kVectors];
        for (VF& total : totals) total = hn::Zero(DF());
        std::size_t h = 0;
        for (; h + kHeads <= n_heads; h += kHeads) {
            add_heads<kHeads>(q.codes + h * head_dim, q.scale + h * n_blocks, q.offset + h * n_blocks,
                              weight + h, head_dim, keys.codes + 4 * k, keys.scale + k, totals);
        }
        for (; h < n_heads; ++h) {
            add_heads<1>(q.codes + h * head_dim, q.scale + h * n_blocks, q.offset + h * n_blocks, weight + h,
                         head_dim, keys.codes + 4 * k, keys.scale + k, totals);
        }
        for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(totals[v], DF(), scores + k + v * kLanes);
    }
}

#endif

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(PackIndexQuery);
HWY_EXPORT(PackIndexKeys);
HWY_EXPORT(PackedIndexScores);

void pack_index_query(const float* q, std::size_t n, const PackedIndexQuery& out) {
    HWY_DYNAMIC_DISPATCH(PackIndexQuery)(q, n, out);
}

void pack_index_keys(const std::byte* const* rows, std::size_t head_dim, const PackedIndexKeys& out) {
    HWY_DYNAMIC_DISPATCH(PackIndexKeys)(rows, head_dim, out);
}

void packed_index_scores_without_vnni(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                                      std::size_t head_dim, const PackedIndexKeys& keys, float* scores) {
    HWY_DYNAMIC_DISPATCH(PackedIndexScores)(q, weight, n_heads, head_dim, keys, false, scores);
}

void packed_index_scores(const PackedIndexQuery& q, const float* weight, std::size_t n_heads,
                         std::size_t head_dim, const PackedIndexKeys& keys, float* scores) {
#if defined(__x86_64__)
    static const bool vnni = __builtin_cpu_supports("avx512vnni");
#else
    constexpr bool vnni = false;
#endif
    HWY_DYNAMIC_DISPATCH(PackedIndexScores)(q, weight, n_heads, head_dim, keys, vnni, scores);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
