#include "backend/gpu/cuda/uploader.h"

#include "backend/gpu/cuda/check.h"

namespace ds4::gpu::cuda {

StreamCopies::StreamCopies(cudaStream_t stream) : stream_(stream) {
    for (cudaEvent_t& event : copied_) {
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cannot create an event");
    }
}

StreamCopies::~StreamCopies() {
    for (const cudaEvent_t event : copied_) {
        if (event != nullptr) cudaEventDestroy(event);
    }
}

std::byte* StreamCopies::pin(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "cannot pin host memory");
    return static_cast<std::byte*>(memory);
}

void StreamCopies::unpin(std::byte* memory) noexcept {
    cudaFreeHost(memory);
}

void StreamCopies::start(std::size_t slot, void* to, const std::byte* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "cannot copy to the GPU");
    check(cudaEventRecord(copied_.at(slot), stream_), "cannot record an event");
}

void StreamCopies::await(std::size_t slot) {
    check(cudaEventSynchronize(copied_.at(slot)), "the GPU failed while copying");
}

}  // namespace ds4::gpu::cuda
