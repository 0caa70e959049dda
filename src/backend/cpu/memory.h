#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

namespace ds4::cpu {

// Zeroed, 64-byte aligned memory; large blocks ask for huge pages and are touched, so that no later access
// faults. Throws std::bad_alloc.
void* allocate_aligned(std::size_t bytes);
void release_aligned(void* memory) noexcept;

// Working memory of an operation: grows with the largest size asked for and stays. It grows by at least half,
// so that what lengthens with the context is seldom moved.
template <class T>
class Scratch {
  public:
    // Room for n values; their contents are unspecified.
    T* take(std::size_t n) {
        if (n > size_) {
            const std::size_t grown = std::max(n, size_ + size_ / 2);
            memory_.reset();
            size_ = 0;
            memory_.reset(static_cast<T*>(allocate_aligned(grown * sizeof(T))));
            size_ = grown;
        }
        return memory_.get();
    }
    // What the last take() gave.
    T* get() const { return memory_.get(); }

  private:
    struct Release {
        void operator()(T* memory) const { release_aligned(memory); }
    };
    std::unique_ptr<T[], Release> memory_;
    std::size_t size_ = 0;
};

}  // namespace ds4::cpu
