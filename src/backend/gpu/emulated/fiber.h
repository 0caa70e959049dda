#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

// A flow of control with a stack of its own, resumed and paused by hand; known to the address and thread
// sanitizers.
namespace ds4::gpu::emulated {

class Fiber {
  public:
    // body must never return. Throws std::bad_alloc.
    explicit Fiber(std::function<void()> body);
    // The stack goes with whatever stands on it.
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Goes on in the fibre until it pauses. Always from the same thread.
    void resume();
    // Goes back to where resume() was called; only from inside.
    void pause();

  private:
    static void enter(unsigned low, unsigned high);

    std::function<void()> body_;
    void* stack_;
    ucontext_t inside_{}, outside_{};
    // What the sanitizers need to know.
    const void* outside_stack_ = nullptr;
    std::size_t outside_size_ = 0;
    void* thread_ = nullptr;
    void* outside_thread_ = nullptr;
};

}  // namespace ds4::gpu::emulated
