// Speed of multiply_rows, per format: `dot_bench [threads [width [format [target]]]]`. The weights are far
// larger than the caches. With one activation row the rate at which weights are read counts, beside a plain
// sum over the same memory; with more of them the multiply-adds, beside what the integer dot product
// instruction does on registers.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_targets.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace {

using ds4::ThreadPool;
using ds4::quant::Format;
using ds4::quant::Type;

constexpr std::size_t kWeightBytes = std::size_t{512} << 20;
constexpr std::size_t kRowsPerTask = 64;

// Processor time of a single thread, since other work on the machine counts less in it; else wall-clock time.
template <typename F>
double best_seconds(const ThreadPool& pool, const F& f) {
    const clockid_t clock = pool.size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    const auto now = [clock] {
        timespec t;
        clock_gettime(clock, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    double best = 1e9;
    for (int i = 0; i < 7; ++i) {
        const double start = now();
        f();
        best = std::min(best, now() - start);
    }
    return best;
}

// Random bytes whose 16-bit words are never infinite or NaN as f16 or bf16.
void fill_with_weights(std::byte* bytes) {
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i + 8 <= kWeightBytes; i += 8) {
        const std::uint64_t word = random() & 0xbbbfbbbfbbbfbbbf;
        std::memcpy(bytes + i, &word, sizeof word);
    }
}

// Pages of 4 KiB, as those of a mapped file.
std::byte* map_weights() {
    void* memory = ::mmap(nullptr, kWeightBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::madvise(memory, kWeightBytes, MADV_NOHUGEPAGE);
    return static_cast<std::byte*>(memory);
}

// GB/s of a plain sum.
double read_limit(ThreadPool& pool, const std::byte* bytes) {
    std::atomic<std::uint64_t> total = 0;
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    const double seconds = best_seconds(pool, [&] {
        pool.parallel_for(kWeightBytes / kPiece, [&](std::size_t begin, std::size_t end) {
            std::uint64_t sums[16] = {};
            for (std::size_t i = begin * kPiece; i < end * kPiece; i += sizeof sums) {
                std::uint64_t words[16];
                std::memcpy(words, bytes + i, sizeof words);
                for (std::size_t k = 0; k < 16; ++k) sums[k] += words[k];
            }
            for (const std::uint64_t sum : sums) total += sum;
        });
    });
    if (total == 1) std::puts("");  // uses the sum
    return static_cast<double>(kWeightBytes) / seconds * 1e-9;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) void dot_instructions(std::size_t n, int* out) {
    __m512i a = _mm512_set1_epi8(1), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
    for (std::size_t i = 0; i < n; ++i) {
        asm volatile(
            "vpdpbusd %0, %0, %0\n vpdpbusd %1, %1, %1\n vpdpbusd %2, %2, %2\n vpdpbusd %3, %3, %3\n"
            "vpdpbusd %4, %4, %4\n vpdpbusd %5, %5, %5\n vpdpbusd %6, %6, %6\n vpdpbusd %7, %7, %7\n"
            : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h));
    }
    _mm512_storeu_si512(out, h);
}

// GMAC/s of vpdpbusd on registers, all threads; 0 without it.
double multiply_limit(ThreadPool& pool) {
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
    constexpr std::size_t kSteps = 4'000'000;
    const double seconds = best_seconds(pool, [&] {
        pool.parallel_for(static_cast<std::size_t>(pool.size()), [&](std::size_t, std::size_t) {
            int sums[16];
            dot_instructions(kSteps, sums);
            if (sums[0] == 1) std::puts("");
        });
    });
    return static_cast<double>(kSteps) * 8 * 64 * pool.size() / seconds * 1e-9;
}
#else
double multiply_limit(ThreadPool&) {
    return 0;
}
#endif

struct Case {
    const Format& format;
    std::size_t width;
    std::size_t n_acts;
};

// Seconds for n_rows weight rows.
double seconds_for(ThreadPool& pool, const Case& c, const std::byte* weights, std::size_t n_rows) {
    const auto act_format = ds4::cpu::activation_format(c.format.type);
    const std::size_t stride = ds4::cpu::activation_bytes(act_format, c.width);
    ds4::cpu::Scratch<std::byte> memory;
    std::byte* acts = memory.take(stride * c.n_acts);
    const std::vector<float> x(c.width, 0.5f);
    for (std::size_t r = 0; r < c.n_acts; ++r) {
        ds4::cpu::prepare_activation(act_format, x.data(), x.size(), acts + r * stride);
    }
    const std::size_t row_bytes = ds4::quant::row_bytes(c.format, c.width);
    std::vector<float> y(n_rows * c.n_acts);
    return best_seconds(pool, [&] {
        pool.parallel_for(n_rows, kRowsPerTask, [&](std::size_t begin, std::size_t end) {
            ds4::cpu::multiply_rows(
                {c.format.type, weights + begin * row_bytes, row_bytes, end - begin, c.width},
                {acts, stride, c.n_acts}, y.data() + begin, n_rows);
        });
    });
}

void force_target(const std::string& name, std::optional<ds4::cpu::ForcedSimdTarget>& forced) {
    for (const std::int64_t target : ds4::cpu::simd_targets()) {
        forced.emplace(target);
        if (ds4::cpu::simd_target() == name) return;
    }
    std::printf("no target %s here\n", name.c_str());
    std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
    const std::size_t width = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 4096;
    const std::string only = argc > 3 && std::string(argv[3]) != "all" ? argv[3] : "";
    std::optional<ds4::cpu::ForcedSimdTarget> forced;
    if (argc > 4) force_target(argv[4], forced);
    ThreadPool pool(n_threads);
    std::byte* weights = map_weights();
    fill_with_weights(weights);
    const double read = read_limit(pool, weights);
    const double peak = multiply_limit(pool);
    std::printf("%s, %d threads, rows of %zu; plain read %.1f GB/s, dot instruction %.0f GMAC/s\n",
                ds4::cpu::simd_target(), n_threads, width, read, peak);
    std::printf("%-8s %18s | GMAC/s with activation rows\n", "", "1 activation row");
    constexpr std::size_t kActs[] = {1, 2, 4, 6, 12, 48, 512};
    std::printf("%-8s %18s |", "", "");
    for (const std::size_t n : kActs) std::printf(" %6zu", n);
    std::puts("");
    for (const Format& f : ds4::quant::formats()) {
        if (f.type == Type::i32 || (!only.empty() && only != f.name)) continue;
        const std::size_t row_bytes = ds4::quant::row_bytes(f, width);
        const std::size_t all_rows = kWeightBytes / row_bytes / kRowsPerTask * kRowsPerTask;
        for (const std::size_t n_acts : kActs) {
            const std::size_t n_rows = std::min(
                all_rows, (std::size_t{1} << 21) * 4096 / width / n_acts / kRowsPerTask * kRowsPerTask);
            const double seconds = seconds_for(pool, {f, width, n_acts}, weights, n_rows);
            if (n_acts == 1) {
                const double rate = static_cast<double>(n_rows * row_bytes) / seconds * 1e-9;
                std::printf("%-8s %5.1f GB/s %4.0f %%   |", f.name.data(), rate, 100 * rate / read);
            }
            std::printf(" %6.1f", static_cast<double>(n_rows * width * n_acts) / seconds * 1e-9);
            std::fflush(stdout);
        }
        std::puts("");
    }
}
