#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "backend/backend.h"
#include "backend/gpu/kernel_list.h"

// The host side of a GPU: memory, one queue of launches and copies, and lists of launches that are replayed.
// Two implementations: cuda/ and emulated/. Everything throws DeviceError with one line; a device that has
// thrown from the queue is not usable any more.
namespace ds4::gpu {

// Thread groups of a launch.
struct Grid {
    std::uint32_t x = 1, y = 1;
};

// One kernel launch, complete: it can be kept and replayed.
struct Launch {
    Kernel kernel{};
    Grid grid;
    std::uint32_t padding = 0;  // no byte is undefined: launches are hashed as they lie in memory
    alignas(16) std::array<std::byte, kArgsBytes> args{};
};

template <class Args>
Launch make_launch(Kernel kernel, Grid grid, const Args& args) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kArgsBytes);
    Launch launch{kernel, grid, 0, {}};
    Args clean = args;
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&clean);  // where it is left as it is, equal launches may look different
#endif
    std::memcpy(launch.args.data(), &clean, sizeof(Args));
    return launch;
}

// What make_launch was given.
template <class Args>
Args args_of(const Launch& launch) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kArgsBytes);
    Args args;
    std::memcpy(&args, launch.args.data(), sizeof(Args));
    return args;
}

// Launches in the form that the device starts fastest.
class Graph {
  public:
    virtual ~Graph() = default;
};

class Device {
  public:
    virtual ~Device() = default;

    virtual std::string description() const = 0;             // e.g. "NVIDIA H200, 132 multiprocessors"
    virtual std::optional<DeviceMemory> memory() const = 0;  // nothing: the host's

    // Whether it has kernels for weights in tiles (DS4_TILE_KERNELS).
    virtual bool multiplies_tiles() const = 0;

    // At least 256-byte aligned, contents arbitrary; kernels may read on to the next multiple of 16 bytes.
    // Throws DeviceMemoryError.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;

    // ---- the queue: in order; all but run() return when `host` may be used again

    virtual void run(std::span<const Launch> launches) = 0;
    virtual void run(const Graph& graph) = 0;
    virtual void upload(void* to, const void* host, std::size_t bytes) = 0;
    virtual void fill_zero(void* to, std::size_t bytes) = 0;
    virtual void copy(void* to, const void* from, std::size_t bytes) = 0;  // within the device
    // Waits for everything before it.
    virtual void download(void* host, const void* from, std::size_t bytes) = 0;
    virtual void wait() = 0;

    virtual std::unique_ptr<Graph> make_graph(std::span<const Launch> launches) = 0;
};

// Device memory that frees itself.
class Buffer {
  public:
    Buffer() = default;
    Buffer(Device& device, std::size_t bytes)
        : device_(&device), memory_(device.allocate(bytes)), bytes_(bytes) {}
    Buffer(Buffer&& other) noexcept
        : device_(other.device_),
          memory_(std::exchange(other.memory_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(memory_, other.memory_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        if (memory_ != nullptr) device_->release(memory_);
    }

    std::byte* get() const { return static_cast<std::byte*>(memory_); }
    std::size_t bytes() const { return bytes_; }

  private:
    Device* device_ = nullptr;
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
};

// An NVIDIA GPU. Throws DeviceError: built without CUDA, no GPU, a driver too old, a GPU this was not built
// for; DeviceLostError: an earlier device of this process has failed, and the driver gives it no other.
std::unique_ptr<Device> make_cuda_device(int index = 0);
// Whether make_cuda_device has something to open, or had before it failed.
bool has_cuda_device();

// The CPU as a GPU: for tests and for people who write kernels.
std::unique_ptr<Device> make_emulated_device();

}  // namespace ds4::gpu
