#include "apps/bench/machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <latch>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "apps/bench/machine_kernels.h"
#include "base/thread_pool.h"

namespace ds4::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Passes are short, so that on a busy machine most run without being interrupted, and every thread times its
// own.
constexpr int kPasses = 160;
constexpr int kCountedPass = 128;          // from the slowest
constexpr int kSlices = 16;                // of the buffer; one is read in a pass
constexpr std::int64_t kRounds = 200'000;  // about half a millisecond
constexpr std::size_t kReadStep = 512;     // PeakKernels::read

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

// In huge pages where the system gives them, so that address translation is no part of the measurement.
Buffer allocate(std::size_t bytes) {
    constexpr std::size_t kHugePage = std::size_t{1} << 21;
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes));
    if (memory == nullptr) throw std::bad_alloc();
    ::madvise(memory, bytes, MADV_HUGEPAGE);
    return Buffer(memory);
}

// What one member of the team does: prepares itself, then returns how much it did in each pass.
struct Job {
    std::function<void(std::size_t member)> prepare;
    std::function<double(std::size_t member, int pass)> work;
};

// Work per second of all members, who work at the same time.
double measure_rate(int n_threads, const Job& job) {
    const auto n = static_cast<std::size_t>(n_threads);
    std::vector<double> rates(n);
    std::latch ready(n_threads);
    const auto run = [&](std::size_t member) {
        if (job.prepare) job.prepare(member);
        ready.arrive_and_wait();
        std::vector<double> passes;
        for (int pass = 0; pass < kPasses; ++pass) {
            const auto start = Clock::now();
            const double amount = job.work(member, pass);
            passes.push_back(amount / std::chrono::duration<double>(Clock::now() - start).count());
        }
        std::sort(passes.begin(), passes.end());
        rates[member] = passes[kCountedPass];
    };
    std::vector<std::thread> threads;
    for (std::size_t member = 0; member < n; ++member) threads.emplace_back(run, member);
    for (std::thread& thread : threads) thread.join();
    return std::accumulate(rates.begin(), rates.end(), 0.0);
}

double read_rate(int n_threads, std::size_t bytes, const PeakKernels& kernels) {
    const Buffer buffer = allocate(bytes);
    const auto n_members = static_cast<std::size_t>(n_threads);
    const std::size_t n = bytes / kSlices / n_members / kReadStep * kReadStep;
    const auto part = [&](std::size_t member, int pass) {
        return buffer.get() + (member * kSlices + static_cast<std::size_t>(pass % kSlices)) * n;
    };
    std::vector<std::uint64_t> mixes(n_members);
    Job job;
    // Whoever writes a page first has it in the memory of his node.
    job.prepare = [&](std::size_t member) { std::memset(part(member, 0), 1, kSlices * n); };
    job.work = [&](std::size_t member, int pass) {
        mixes[member] += kernels.read(part(member, pass), n);
        return static_cast<double>(n);
    };
    return measure_rate(n_threads, job);
}

}  // namespace

MachineLimits measure_machine(int threads, std::size_t read_bytes) {
    const PeakKernels& kernels = peak_kernels();
    MachineLimits limits;
    limits.threads = ThreadPool(threads).size();
    limits.instructions = kernels.name;
    limits.read_bytes = read_rate(limits.threads, read_bytes, kernels);
    limits.int8_ops =
        measure_rate(limits.threads, {{}, [&](std::size_t, int) { return kernels.int8_products(kRounds); }});
    limits.f32_ops =
        measure_rate(limits.threads, {{}, [&](std::size_t, int) { return kernels.f32_products(kRounds); }});
    return limits;
}

}  // namespace ds4::bench
