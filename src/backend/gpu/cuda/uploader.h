#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include "base/thread_pool.h"

namespace ds4::gpu::cuda {

// Copies large blocks to the device through a ring of pinned memory: threads read the mapped file into one
// part while the others are on their way.
class Uploader {
  public:
    // Throws DeviceError.
    explicit Uploader(cudaStream_t stream);
    ~Uploader();
    Uploader(const Uploader&) = delete;
    Uploader& operator=(const Uploader&) = delete;

    // `host` may be used again when it returns; the copies are in the stream.
    void upload(void* to, const void* host, std::size_t bytes);

  private:
    struct Part {
        std::byte* memory = nullptr;
        cudaEvent_t copied = nullptr;
    };

    cudaStream_t stream_;
    ThreadPool pool_;
    std::array<Part, 4> parts_;
    std::size_t next_ = 0;
};

}  // namespace ds4::gpu::cuda
