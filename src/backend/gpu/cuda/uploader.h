#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include "backend/gpu/upload_ring.h"

namespace ds4::gpu::cuda {

// Copies from pinned memory in a stream.
class StreamCopies final : public CopyEngine {
  public:
    // Throws DeviceError.
    explicit StreamCopies(cudaStream_t stream);
    ~StreamCopies() override;
    StreamCopies(const StreamCopies&) = delete;
    StreamCopies& operator=(const StreamCopies&) = delete;

    std::byte* pin(std::size_t bytes) override;
    void unpin(std::byte* memory) noexcept override;
    void start(std::size_t slot, void* to, const std::byte* from, std::size_t bytes) override;
    void await(std::size_t slot) override;

    static constexpr std::size_t kSlots = 4;

  private:
    cudaStream_t stream_;
    std::array<cudaEvent_t, kSlots> copied_{};
};

// What large uploads go through.
struct Uploader {
    explicit Uploader(cudaStream_t stream) : copies(stream), ring(copies, options()) {}

    static UploadRing::Options options() {
        UploadRing::Options options;
        options.n_slots = StreamCopies::kSlots;
        return options;
    }

    StreamCopies copies;
    UploadRing ring;
};

}  // namespace ds4::gpu::cuda
