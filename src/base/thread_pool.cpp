#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace ds4 {
namespace {

// Some 40 us: long enough to bridge the gap between two loops of one model step, short enough not to burn a
// shared core.
constexpr int kSpins = 1000;

// Fields of ThreadPool::state_. The number may wrap: a worker that slept through all of them misses a loop.
constexpr std::uint32_t kInside = 0xfff;
constexpr std::uint32_t kOpen = 0x1000;
constexpr std::uint32_t kCallerSleeps = 0x2000;
constexpr std::uint32_t kLoop = 0x4000;  // one unit of the loop's number
constexpr int kMostWorkers = kInside;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The number of the loop that is open; 0 if none is.
std::uint32_t open_loop(std::uint32_t state) {
    return (state & kOpen) != 0 ? state / kLoop + 1 : 0;
}

int usable_cores() {
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
    const int n = std::min(n_threads > 0 ? n_threads : usable_cores(), kMostWorkers);
    workers_.reserve(static_cast<std::size_t>(n - 1));
    for (int member = 1; member < n; ++member) workers_.emplace_back([this, member] { worker_loop(member); });
}

ThreadPool::~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    state_.fetch_add(kLoop);
    state_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::worker_loop(int member) {
    std::uint32_t last = 0;  // the loop that this worker was in
    int spins = 0;
    for (;;) {
        std::uint32_t state = state_.load(std::memory_order_acquire);
        if (stop_.load(std::memory_order_relaxed)) return;
        const std::uint32_t loop = open_loop(state);
        if (loop == 0 || loop == last) {
            if (++spins < kSpins) {
                pause();
            } else {
                state_.wait(state, std::memory_order_acquire);
            }
            continue;
        }
        if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
        work(member);
        last = loop;
        spins = 0;
        const std::uint32_t left = state_.fetch_sub(1) - 1;
        if ((left & kInside) == 0 && (left & kCallerSleeps) != 0) state_.notify_all();
    }
}

// Lets nobody in any more and waits until all have left.
void ThreadPool::close() {
    std::uint32_t state = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (int i = 0; i < kSpins && (state & kInside) != 0; ++i) {
        pause();
        state = state_.load(std::memory_order_acquire);
    }
    if ((state & kInside) == 0) return;
    state = state_.fetch_or(kCallerSleeps) | kCallerSleeps;
    while ((state & kInside) != 0) {
        state_.wait(state, std::memory_order_acquire);
        state = state_.load(std::memory_order_acquire);
    }
    state_.fetch_and(~kCallerSleeps, std::memory_order_relaxed);
}

void ThreadPool::work(int member) {
    try {
        for (;;) {
            const std::size_t begin = next_.fetch_add(step_, std::memory_order_relaxed);
            if (begin >= n_) return;
            call_(fn_, begin, std::min(begin + step_, n_), member);
        }
    } catch (...) {
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
        next_.store(n_, std::memory_order_relaxed);
    }
}

void ThreadPool::run(std::size_t n, std::size_t grain, Call call, void* fn) {
    if (n == 0) return;
    grain = std::max<std::size_t>(grain, 1);
    if (workers_.empty() || n <= grain) {
        call(fn, 0, n, 0);
        return;
    }
    // About four pieces per thread: enough to even out unequal cores, few enough to keep the counter quiet.
    const std::size_t pieces = static_cast<std::size_t>(size()) * 4;
    const std::size_t step = (n + pieces - 1) / pieces;
    call_ = call;
    fn_ = fn;
    n_ = n;
    step_ = (step + grain - 1) / grain * grain;
    next_.store(0, std::memory_order_relaxed);
    state_.fetch_add(kLoop + kOpen);
    state_.notify_all();
    work(0);
    close();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace ds4
