#include "backend/gpu/emulated/thread_group.h"

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "backend/gpu/emulated/fiber.h"
#include "ds4/error.h"

namespace ds4::gpu::emulated {
namespace {

constexpr std::uint32_t kMaxThreads = 1024;

enum class State : std::uint8_t { ready, in_exchange, at_barrier, done };

std::string place(Site site) {
    std::string file = site.file;
    file.erase(0, file.find_last_of('/') + 1);
    return file + ":" + std::to_string(site.line);
}

bool same_place(Site a, Site b) {
    return a.line == b.line && std::string_view(a.file) == b.file;
}

}  // namespace

void throw_out_of_bounds(std::uint32_t index, std::uint32_t size) {
    throw DeviceError("threadgroup access out of bounds: index " + std::to_string(index) + " of " +
                      std::to_string(size));
}

void throw_misaligned(std::size_t bytes) {
    throw DeviceError("access of " + std::to_string(bytes) +
                      " bytes at an address that is not a multiple of it");
}

struct ThreadGroup::Fibers {
    struct One {
        Thread thread{};
        std::unique_ptr<Fiber> fiber;
        State state = State::done;
        Site site;  // where it waits
        unsigned n_exchanges = 0;
    };
    // Two turns of values: a lane may bring its next one before the others have read this one's.
    struct Exchange {
        std::uint32_t values[2][kSimdWidth];
    };

    std::vector<One> threads;
    Exchange exchanges[kMaxThreads / kSimdWidth];
    Kernel kernel{};
    std::exception_ptr failure;

    // The life of a fibre: one thread after the other.
    void serve(One& one) {
        for (;;) {
            try {
                kernel.body(one.thread, kernel.args, kernel.shared);
            } catch (...) {
                if (!failure) failure = std::current_exception();
            }
            one.state = State::done;
            one.fiber->pause();
        }
    }

    void wait(One& one, State state, Site site) {
        one.state = state;
        one.site = site;
        one.fiber->pause();
    }

    [[noreturn]] void fail(const std::string& what) {
        throw DeviceError(std::string("kernel ") + kernel.name + ": " + what);
    }

    static std::string describe(const One& one) {
        const std::string thread = "thread " + std::to_string(one.thread.index);
        if (one.state == State::done) return thread + " has ended";
        return thread + " waits at " + place(one.site);
    }

    // All of `lanes` must stand where the first of them stands.
    void check_met(One* lanes, std::uint32_t n, const char* where) {
        for (std::uint32_t i = 1; i < n; ++i) {
            if (lanes[i].state == lanes[0].state &&
                (lanes[i].state == State::done || same_place(lanes[i].site, lanes[0].site))) {
                continue;
            }
            fail(std::string("divergent ") + where + ": " + describe(lanes[0]) + ", " + describe(lanes[i]));
        }
    }

    // Runs a SIMD-group until its lanes wait for the other ones of the group or have ended.
    void run_simd(One* lanes, bool backwards) {
        for (;;) {
            bool has_run = false;
            for (std::uint32_t i = 0; i < kSimdWidth; ++i) {
                One& lane = lanes[backwards ? kSimdWidth - 1 - i : i];
                if (lane.state != State::ready) continue;
                lane.fiber->resume();
                if (failure) return;
                has_run = true;
            }
            if (!has_run) return;
            check_met(lanes, kSimdWidth, "SIMD-group operation or barrier");
            if (lanes[0].state != State::in_exchange) return;
            for (std::uint32_t i = 0; i < kSimdWidth; ++i) lanes[i].state = State::ready;
        }
    }

    void run_all(std::uint32_t n_threads, bool backwards) {
        const std::uint32_t n_simds = n_threads / kSimdWidth;
        for (;;) {
            for (std::uint32_t i = 0; i < n_simds; ++i) {
                run_simd(&threads[(backwards ? n_simds - 1 - i : i) * kSimdWidth], backwards);
                if (failure) return;
            }
            check_met(threads.data(), n_threads, "barrier");
            if (threads[0].state == State::done) return;
            for (std::uint32_t i = 0; i < n_threads; ++i) threads[i].state = State::ready;
        }
    }
};

ThreadGroup::ThreadGroup() : fibers_(std::make_unique<Fibers>()) {}
ThreadGroup::~ThreadGroup() = default;

void ThreadGroup::run(const Kernel& kernel, std::uint32_t group, std::uint32_t group_y,
                      std::uint32_t n_threads) {
    Fibers& f = *fibers_;
    if (n_threads == 0 || n_threads % kSimdWidth != 0 || n_threads > kMaxThreads) {
        throw DeviceError(std::string("kernel ") + kernel.name + ": a thread group of " +
                          std::to_string(n_threads) + " threads");
    }
    f.kernel = kernel;
    f.failure = nullptr;
    if (f.threads.empty()) f.threads.resize(kMaxThreads);
    for (std::uint32_t i = 0; i < n_threads; ++i) {
        Fibers::One& one = f.threads[i];
        one.thread = {group,          group_y, i, n_threads, i / kSimdWidth, n_threads / kSimdWidth,
                      i % kSimdWidth, this};
        one.state = State::ready;
        one.n_exchanges = 0;
        if (one.fiber == nullptr) one.fiber = std::make_unique<Fiber>([&f, &one] { f.serve(one); });
    }
    try {
        f.run_all(n_threads, group % 2 == 1);
        if (f.failure) std::rethrow_exception(f.failure);
    } catch (...) {
        // Threads that wait in the middle of a body are given up with their stacks; bodies own nothing.
        f.threads.clear();
        throw;
    }
}

void ThreadGroup::group_barrier(const Thread& t, Site site) {
    fibers_->wait(fibers_->threads[t.index], State::at_barrier, site);
}

const std::uint32_t* ThreadGroup::exchange(const Thread& t, std::uint32_t value, Site site) {
    Fibers::One& one = fibers_->threads[t.index];
    std::uint32_t* values = fibers_->exchanges[t.simd].values[one.n_exchanges++ % 2];
    values[t.lane] = value;
    fibers_->wait(one, State::in_exchange, site);
    return values;
}

}  // namespace ds4::gpu::emulated
