#include "backend/gpu/emulated/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace ds4::gpu::emulated {
namespace {

constexpr std::size_t kStackBytes = std::size_t{64} << 10;

// Leaves here and goes on there, without the system call that swapcontext makes for the signal mask: fibres
// meet millions of times. Enters `there` by its context the first time.
__attribute__((noinline, no_sanitize("address"))) void switch_to(void** here, void** there,
                                                                 const ucontext_t* first) {
    if (__builtin_setjmp(here) != 0) return;
    if (first != nullptr) ::setcontext(first);
    __builtin_longjmp(there, 1);
}

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)) {
    stack_ =
        ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack_ == MAP_FAILED) throw std::bad_alloc();
    ::getcontext(&entry_);
    entry_.uc_stack.ss_sp = stack_;
    entry_.uc_stack.ss_size = kStackBytes;
    entry_.uc_link = nullptr;
    // makecontext passes integers only.
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&entry_, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(self),
                  static_cast<unsigned>(std::uint64_t{self} >> 32));
#if defined(__SANITIZE_THREAD__)
    known_.thread = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_, kStackBytes);
#elif defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(known_.thread);
#endif
    ::munmap(stack_, kStackBytes);
}

void Fiber::enter(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(std::uint64_t{high} << 32 | low));
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &self->known_.outside_stack, &self->known_.outside_size);
#endif
    self->body_();
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, stack_, kStackBytes);
#elif defined(__SANITIZE_THREAD__)
    known_.outside_thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(known_.thread, 0);
#endif
    switch_to(outside_, inside_, std::exchange(entered_, true) ? nullptr : &entry_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
}

void Fiber::pause() {
#if defined(__SANITIZE_ADDRESS__)
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, known_.outside_stack, known_.outside_size);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(known_.outside_thread, 0);
#endif
    switch_to(inside_, outside_, nullptr);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own, &known_.outside_stack, &known_.outside_size);
#endif
}

}  // namespace ds4::gpu::emulated
