#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

// A thread group on the CPU: every thread is a fibre, so that barriers and SIMD-group operations are what
// they are on a GPU. What a GPU would forgive or hang on is an error here: threads of a group that meet at
// different barriers, lanes that meet in different SIMD-group operations, threads that end while others wait.
namespace ds4::gpu::emulated {

inline constexpr std::uint32_t kSimdWidth = 32;

class ThreadGroup;

// The line of a call, as a default argument. (clang 14 has no std::source_location.)
struct Site {
    const char* file = "";
    int line = 0;

    static constexpr Site current(const char* of_file = __builtin_FILE(), int of_line = __builtin_LINE()) {
        return {of_file, of_line};
    }
};

// Where a thread stands; what kernel bodies get.
struct Thread {
    std::uint32_t group, group_y;    // index of the thread group in the grid
    std::uint32_t index, n_threads;  // in the group
    std::uint32_t simd, n_simds;     // SIMD-groups of the group
    std::uint32_t lane;              // in the SIMD-group
    ThreadGroup* in_group;
};

// Throws DeviceError.
[[noreturn]] void throw_out_of_bounds(std::uint32_t index, std::uint32_t size);
[[noreturn]] void throw_misaligned(std::size_t bytes);

// What the threads of a group run.
struct Kernel {
    const char* name;
    void (*body)(const Thread& t, const void* args, void* shared);
    const void* args;
    void* shared;
};

// Fibres that run one thread group after the other. One caller at a time.
class ThreadGroup {
  public:
    ThreadGroup();
    ~ThreadGroup();

    // Runs the group (group, group_y) of n_threads, a multiple of kSimdWidth. Between barriers, lanes and
    // SIMD-groups run one after the other, those of odd groups from the last to the first: a missing barrier
    // shows in one of them. Throws DeviceError for threads that do not meet, and what the body throws.
    void run(const Kernel& kernel, std::uint32_t group, std::uint32_t group_y, std::uint32_t n_threads);

    // ---- called by the threads

    void group_barrier(const Thread& t, Site site);
    // Waits for all lanes of the SIMD-group and returns what each of them brought, until the next exchange
    // but one.
    const std::uint32_t* exchange(const Thread& t, std::uint32_t value, Site site);

  private:
    struct Fibers;
    std::unique_ptr<Fibers> fibers_;
};

}  // namespace ds4::gpu::emulated
