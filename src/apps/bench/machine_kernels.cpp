#include "apps/bench/machine_kernels.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ds4::bench {
namespace {

// Enough independent sums to cover the latency of an addition in every unit.
constexpr int kSums = 12;

// Keeps a value in a register, where the compiler knows nothing of it.
template <class T>
inline __attribute__((always_inline)) void hide(T& value) {
#if defined(__x86_64__)
    asm volatile("" : "+x"(value));
#else
    asm volatile("" : "+w"(value));
#endif
}

// Of n words of 64 bits.
template <std::size_t n>
std::uint64_t mix_of(const void* words) {
    std::array<std::uint64_t, n> parts;
    std::memcpy(parts.data(), words, sizeof parts);
    std::uint64_t mix = 0;
    for (const std::uint64_t part : parts) mix ^= part;
    return mix;
}

// ---- Any machine: vectors of 16 bytes in the compiler's own notation

using I8x16 = std::int8_t __attribute__((vector_size(16)));
using I16x8 = std::int16_t __attribute__((vector_size(16)));
using F32x4 = float __attribute__((vector_size(16)));
using U64x2 = std::uint64_t __attribute__((vector_size(16)));

std::uint64_t read_plain(const std::byte* from, std::size_t n) {
    std::array<U64x2, 8> sums{};
    for (std::size_t at = 0; at < n; at += 128) {
        const auto* v = reinterpret_cast<const U64x2*>(from + at);
        for (std::size_t i = 0; i < 8; ++i) sums[i] ^= v[i];
    }
    for (std::size_t i = 1; i < 8; ++i) sums[0] ^= sums[i];
    return mix_of<2>(&sums[0]);
}

// Products of 8 bits widened to 16, as machines without dot products do them.
double int8_plain(std::int64_t rounds) {
    I16x8 sums[kSums] = {};
    I16x8 a = {1, 2, 3, 4, 5, 6, 7, 8};
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) sum += a * a;
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 8 * 2;
}

double f32_plain(std::int64_t rounds) {
    F32x4 sums[kSums] = {};
    F32x4 a = {1, 2, 3, 4};
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) sum += a * a;
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 4 * 2;
}

constexpr PeakKernels kPlain{"128-bit vectors", read_plain, int8_plain, f32_plain};

#if defined(__x86_64__)
#define DS4_AVX2 __attribute__((target("avx2,fma")))
#define DS4_AVX512 __attribute__((target("avx512f,avx512bw,avx512vnni")))

DS4_AVX2 std::uint64_t read_avx2(const std::byte* from, std::size_t n) {
    __m256i sums[8] = {};
    for (std::size_t at = 0; at < n; at += 256) {
        const auto* v = reinterpret_cast<const __m256i*>(from + at);
        for (int i = 0; i < 8; ++i) sums[i] = _mm256_xor_si256(sums[i], _mm256_load_si256(v + i));
    }
    for (int i = 1; i < 8; ++i) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
    return mix_of<4>(&sums[0]);
}

// Bytes to 16 bits, 16 bits to 32, and the sum: three instructions for 32 products.
DS4_AVX2 double int8_avx2(std::int64_t rounds) {
    __m256i sums[kSums] = {};
    __m256i a = _mm256_set1_epi8(3);
    const __m256i ones = _mm256_set1_epi16(1);
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) {
            __m256i pairs = _mm256_maddubs_epi16(a, a);
            hide(pairs);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 32 * 2;
}

DS4_AVX2 double f32_avx2(std::int64_t rounds) {
    __m256 sums[kSums] = {};
    __m256 a = _mm256_set1_ps(3);
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) sum = _mm256_fmadd_ps(a, a, sum);
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 8 * 2;
}

constexpr PeakKernels kAvx2{"AVX2", read_avx2, int8_avx2, f32_avx2};

DS4_AVX512 std::uint64_t read_avx512(const std::byte* from, std::size_t n) {
    __m512i sums[8] = {};
    for (std::size_t at = 0; at < n; at += 512) {
        for (int i = 0; i < 8; ++i)
            sums[i] = _mm512_xor_si512(sums[i], _mm512_load_si512(from + at + 64 * i));
    }
    for (int i = 1; i < 8; ++i) sums[0] = _mm512_xor_si512(sums[0], sums[i]);
    return mix_of<8>(&sums[0]);
}

DS4_AVX512 double int8_avx512(std::int64_t rounds) {
    __m512i sums[kSums] = {};
    __m512i a = _mm512_set1_epi8(3);
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, a);
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 64 * 2;
}

DS4_AVX512 double f32_avx512(std::int64_t rounds) {
    __m512 sums[kSums] = {};
    __m512 a = _mm512_set1_ps(3);
    for (std::int64_t r = 0; r < rounds; ++r) {
        hide(a);
        for (auto& sum : sums) sum = _mm512_fmadd_ps(a, a, sum);
        for (auto& sum : sums) hide(sum);
    }
    return static_cast<double>(rounds) * kSums * 16 * 2;
}

constexpr PeakKernels kAvx512{"AVX-512 VNNI", read_avx512, int8_avx512, f32_avx512};
#endif

}  // namespace

const PeakKernels& peak_kernels() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vnni"))
        return kAvx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
    return kPlain;
}

}  // namespace ds4::bench
