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
    using Place = void* [5];  // of __builtin_setjmp

    static void enter(unsigned low, unsigned high);

    std::function<void()> body_;
    void* stack_;
    ucontext_t entry_{};
    bool entered_ = false;
    Place inside_{}, outside_{};
    // What the sanitizers need to know; without them nobody looks at it.
    struct Known {
        const void* outside_stack = nullptr;
        std::size_t outside_size = 0;
        void* thread = nullptr;
        void* outside_thread = nullptr;
    } known_;
};

}  // namespace ds4::gpu::emulated
