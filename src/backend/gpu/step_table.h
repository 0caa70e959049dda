#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "backend/gpu/device.h"

namespace ds4::gpu {

// What changes from step to step (tokens, positions, segments, histories, page tables), in device memory.
// Filled on the host while operations are recorded, uploaded before they run. Steps of the same shape find
// everything at the same addresses.
class StepTable {
  public:
    explicit StepTable(Device& device) : device_(device) {}

    // Where `values` will be on the device, until clear(). The same host memory is not stored again while
    // what was last stored from it begins with the same bytes. `room`: values that there is room for, at
    // least values.size(). Throws DeviceMemoryError.
    template <class T>
    const std::remove_const_t<T>* add(std::span<T> values, std::size_t room) {
        static_assert(std::is_trivially_copyable_v<T>);
        return static_cast<const T*>(add(values.data(), values.size_bytes(), room * sizeof(T)));
    }
    template <class T>
    const std::remove_const_t<T>* add(std::span<T> values) {
        return add(values, values.size());
    }

    // Everything that was added since the last time goes to the device.
    void upload();
    // Forgets everything; the memory stays for the next step.
    void clear();

  private:
    // A block never moves, so that addresses can be given out before the upload.
    struct Block {
        Buffer device;
        std::unique_ptr<std::byte[]> host;
        std::size_t used = 0;
        std::size_t uploaded = 0;
    };
    struct Known {  // what was last stored from `source`
        const void* source;
        std::size_t bytes;
        const std::byte* host;
        void* device;
    };

    void* add(const void* values, std::size_t bytes, std::size_t room);
    Block& block_with_room(std::size_t bytes);

    Device& device_;
    std::vector<Block> blocks_;
    std::size_t current_ = 0;
    std::vector<Known> known_;
};

}  // namespace ds4::gpu
