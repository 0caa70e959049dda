#include "apps/bench/machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "apps/bench/machine_kernels.h"
#include "base/thread_pool.h"

namespace ds4::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Passes are short, so that on a busy machine some run without being interrupted.
constexpr int kPasses = 64;
constexpr int kSlices = 16;                // of the buffer, one is read in a pass
constexpr std::int64_t kRounds = 200'000;  // about a millisecond
constexpr std::size_t kReadStep = 512;     // PeakKernels::read

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

// In huge pages where the system gives them, so that address translation is no part of the measurement.
Buffer allocate(std::size_t bytes) {
    constexpr std::size_t kHugePage = std::size_t{1} << 21;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes));
    if (memory == nullptr) throw std::bad_alloc();
    ::madvise(memory, bytes, MADV_HUGEPAGE);
    return Buffer(memory);
}

// Work per second: in each pass every member of the team runs `work`, which returns how much it did; best
// pass.
double best_rate(ThreadPool& pool, const std::function<double(std::size_t member, int pass)>& work) {
    const auto n = static_cast<std::size_t>(pool.size());
    std::vector<double> done(n);
    double best = 0;
    for (int pass = 0; pass < kPasses; ++pass) {
        const auto start = Clock::now();
        pool.parallel_for(n, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) done[i] = work(i, pass);
        });
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / seconds);
    }
    return best;
}

double read_rate(ThreadPool& pool, const PeakKernels& kernels) {
    const Buffer buffer = allocate(kReadBytes);
    const auto n_members = static_cast<std::size_t>(pool.size());
    const std::size_t n = kReadBytes / kSlices / n_members / kReadStep * kReadStep;
    const auto part = [&](std::size_t member, int pass) {
        return buffer.get() + (member * kSlices + static_cast<std::size_t>(pass % kSlices)) * n;
    };
    // Whoever writes a page first has it in the memory of his node.
    pool.parallel_for(n_members, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) std::memset(part(i, 0), 1, kSlices * n);
    });
    std::vector<std::uint64_t> mixes(n_members);
    return best_rate(pool, [&](std::size_t member, int pass) {
        mixes[member] += kernels.read(part(member, pass), n);
        return static_cast<double>(n);
    });
}

}  // namespace

MachineLimits measure_machine(int threads) {
    ThreadPool pool(threads);
    const PeakKernels& kernels = peak_kernels();
    MachineLimits limits;
    limits.threads = pool.size();
    limits.instructions = kernels.name;
    limits.read_bytes = read_rate(pool, kernels);
    limits.int8_ops = best_rate(pool, [&](std::size_t, int) { return kernels.int8_products(kRounds); });
    limits.f32_ops = best_rate(pool, [&](std::size_t, int) { return kernels.f32_products(kRounds); });
    return limits;
}

}  // namespace ds4::bench
