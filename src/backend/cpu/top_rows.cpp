#include "backend/cpu/top_rows.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/top_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

using DI = hn::RebindToSigned<DF>;
using VI = hn::Vec<DI>;

// Floats order like their bits as integers once the magnitudes of the negative ones are turned around.
HWY_INLINE void scores_to_ranks(const float* scores, std::size_t n, std::int32_t* ranks) {
    for (std::size_t i = 0; i < n; i += kLanes) {
        const VI bits = hn::BitCast(DI(), load(scores + i));
        const VI magnitude = hn::And(hn::BroadcastSignBit(bits), hn::Set(DI(), 0x7fffffff));
        hn::StoreU(hn::Xor(bits, magnitude), DI(), ranks + i);
    }
}

// Ranks above `limit`, of n padded to whole vectors.
HWY_INLINE std::size_t count_above(const std::int32_t* ranks, std::size_t n, std::int32_t limit) {
    const VI bound = hn::Set(DI(), limit);
    VI count = hn::Zero(DI());
    for (std::size_t i = 0; i < n; i += kLanes) {
        const auto above = hn::Gt(hn::LoadU(DI(), ranks + i), bound);
        count = hn::Sub(count, hn::VecFromMask(DI(), above));
    }
    return static_cast<std::size_t>(hn::GetLane(hn::SumOfLanes(DI(), count)));
}

void TopRows(const float* scores, std::size_t n, std::size_t k, std::int32_t* ranks, std::int32_t* rows) {
    constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min();
    const std::size_t padded = (n + kLanes - 1) / kLanes * kLanes;
    scores_to_ranks(scores, padded, ranks);
    std::fill(ranks + n, ranks + padded, kLowest);

    // The k-th largest rank, bit by bit: passes over ranks in the cache are cheaper than moving them about.
    std::uint32_t threshold = 0;  // distance from kLowest
    for (std::uint32_t bit = 1U << 31; bit != 0; bit >>= 1) {
        const std::uint32_t higher = threshold | bit;
        const auto below = static_cast<std::int32_t>((higher - 1) ^ 0x80000000U);
        if (count_above(ranks, padded, below) >= k) threshold = higher;
    }
    const auto limit = static_cast<std::int32_t>(threshold ^ 0x80000000U);
    std::size_t equal_left = k - count_above(ranks, padded, limit);

    const VI bound = hn::Set(DI(), limit);
    for (std::size_t i = 0, found = 0; found < k; i += kLanes) {
        std::uint8_t bytes[8] = {};
        hn::StoreMaskBits(DI(), hn::Not(hn::Lt(hn::LoadU(DI(), ranks + i), bound)), bytes);
        for (unsigned bits = bytes[0] | static_cast<unsigned>(bytes[1]) << 8; bits != 0; bits &= bits - 1) {
            const std::size_t row = i + static_cast<std::size_t>(std::countr_zero(bits));
            if (ranks[row] == limit) {
                if (equal_left == 0) continue;
                --equal_left;
            }
            rows[found++] = static_cast<std::int32_t>(row);
        }
    }
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(TopRows);

void top_rows(const float* scores, std::size_t n, std::size_t k, std::int32_t* ranks, std::int32_t* rows) {
    HWY_DYNAMIC_DISPATCH(TopRows)(scores, n, k, ranks, rows);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
