#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace ds4 {
namespace {

// Long enough to bridge the gap between two loops of one model step, short enough not to burn a shared core.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits until `value` differs from `old`; returns the new value.
std::uint32_t wait_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        const std::uint32_t now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        pause();
    }
    value.wait(old, std::memory_order_acquire);
    return value.load(std::memory_order_acquire);
}

int usable_cores() {
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
    const int n = n_threads > 0 ? n_threads : usable_cores();
    workers_.reserve(static_cast<std::size_t>(n - 1));
    for (int member = 1; member < n; ++member) workers_.emplace_back([this, member] { worker_loop(member); });
}

ThreadPool::~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::worker_loop(int member) {
    std::uint32_t seen = 0;
    for (;;) {
        seen = wait_change(generation_, seen);
        if (stop_.load(std::memory_order_relaxed)) return;
        work(member);
        if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
    }
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
    busy_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    work(0);
    for (std::uint32_t left = busy_.load(std::memory_order_acquire); left != 0;) {
        left = wait_change(busy_, left);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace ds4
