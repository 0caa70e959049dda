// Asking for weights before they are used. Included once per instruction set, as dot_kernels-inl.h.
#if defined(DS4_DOT_PREFETCH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS4_DOT_PREFETCH_INL_H
#undef DS4_DOT_PREFETCH_INL_H
#else
#define DS4_DOT_PREFETCH_INL_H
#endif

#include <cstddef>

#include "hwy/base.h"

DS4_KERNELS_BEGIN

// How far ahead of their use weights are asked for: pages of 4 KiB end the hardware's own prefetching.
inline constexpr std::size_t kPrefetchAhead = std::size_t{8} << 10;

// Where prefetched lines go: to the second-level cache, or, used once and soon, past it to the first.
inline constexpr int kLevel2 = 2, kOnce = 0;

template <int kTo>
HWY_INLINE void prefetch(const std::byte* p, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, kTo);
}

DS4_KERNELS_END

#endif  // per-target include guard
