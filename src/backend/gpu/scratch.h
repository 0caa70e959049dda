#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "backend/gpu/device.h"

namespace ds4::gpu {

// Device memory that lives within one operation. Operations run one after the other, so they share it.
class Scratch {
  public:
    explicit Scratch(Device& device) : device_(device) {}

    // A new operation begins: everything taken before is free again.
    void restart() { used_ = 0; }
    // n values, 256-byte aligned. Throws DeviceMemoryError.
    template <class T>
    T* take(std::int64_t n) {
        return static_cast<T*>(take_bytes(static_cast<std::size_t>(n) * sizeof(T)));
    }
    // What was recorded has run: blocks that have become too small may go.
    void release_old() { old_.clear(); }
    // Whether it has moved since then: launches made before point at what will be released.
    bool has_moved() const { return !old_.empty(); }

  private:
    void* take_bytes(std::size_t bytes) {
        constexpr std::size_t kAlignment = 256;
        const std::size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
        if (begin + bytes > memory_.bytes()) return grow(bytes);
        used_ = begin + bytes;
        return memory_.get() + begin;
    }
    // The old block stays while launches point at it.
    void* grow(std::size_t bytes) {
        Buffer larger(device_, std::max(memory_.bytes() + memory_.bytes() / 2, memory_.bytes() + bytes));
        old_.push_back(std::move(memory_));
        memory_ = std::move(larger);
        used_ = bytes;
        return memory_.get();
    }

    Device& device_;
    Buffer memory_;
    std::size_t used_ = 0;
    std::vector<Buffer> old_;
};

}  // namespace ds4::gpu
