#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ds4 {

// A fixed team of threads that runs one loop at a time. The caller is a member of the team: a pool of one
// starts no thread. Members wait by spinning briefly and then sleeping on a futex, so an idle pool costs
// nothing and a busy one starts a loop within a microsecond. The caller waits for those who joined in, never
// for one that has yet to wake up or stands in line for a core: on a busy machine it does the work alone.
// parallel_for allocates nothing.
class ThreadPool {
  public:
    // n_threads >= 1; 0 means one per core the process may use.
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return static_cast<int>(workers_.size()) + 1; }

    // Calls fn(begin, end) or fn(begin, end, member) on disjoint ranges that cover [0, n), each a multiple of
    // `grain` long except the last; member is 0..size()-1 and no two calls with one member overlap. Returns
    // when all are done; rethrows the first exception. One caller at a time, not from inside a loop.
    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& fn) {
        using Fn = std::remove_reference_t<F>;
        const auto call = [](void* f, std::size_t begin, std::size_t end, int member) {
            if constexpr (std::is_invocable_v<Fn&, std::size_t, std::size_t, int>) {
                (*static_cast<Fn*>(f))(begin, end, member);
            } else {
                (*static_cast<Fn*>(f))(begin, end);
            }
        };
        run(n, grain, call, const_cast<void*>(static_cast<const void*>(&fn)));
    }
    template <class F>
    void parallel_for(std::size_t n, F&& fn) {
        parallel_for(n, 1, fn);
    }

  private:
    using Call = void (*)(void* fn, std::size_t begin, std::size_t end, int member);

    void run(std::size_t n, std::size_t grain, Call call, void* fn);
    void work(int member);
    void worker_loop(int member);
    void close();

    // The loop in progress. Written by the caller while the loop is closed and nobody inside.
    Call call_ = nullptr;
    void* fn_ = nullptr;
    std::size_t n_ = 0;
    std::size_t step_ = 1;

    alignas(64) std::atomic<std::size_t> next_{0};
    // How many workers are inside the loop; whether it is open, so that more may come in; whether the caller
    // sleeps until they have left; and the loop's number. See thread_pool.cpp.
    alignas(64) std::atomic<std::uint32_t> state_{0};
    std::atomic<bool> stop_{false};
    std::mutex error_mutex_;
    std::exception_ptr error_;
    std::vector<std::thread> workers_;
};

}  // namespace ds4
