#include "backend/gpu/cuda/uploader.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "backend/gpu/cuda/check.h"

namespace ds4::gpu::cuda {
namespace {

constexpr std::size_t kPartBytes = std::size_t{32} << 20;
constexpr std::size_t kGrain = std::size_t{1} << 20;
constexpr unsigned kMaxThreads = 8;  // more than fill a PCIe 5 link

int n_threads() {
    return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads));
}

}  // namespace

Uploader::Uploader(cudaStream_t stream) : stream_(stream), pool_(n_threads()) {
    for (Part& part : parts_) {
        void* memory = nullptr;
        check(cudaMallocHost(&memory, kPartBytes), "cannot pin host memory");
        part.memory = static_cast<std::byte*>(memory);
        check(cudaEventCreateWithFlags(&part.copied, cudaEventDisableTiming), "cannot create an event");
    }
}

Uploader::~Uploader() {
    for (const Part& part : parts_) {
        if (part.copied != nullptr) {
            cudaEventSynchronize(part.copied);
            cudaEventDestroy(part.copied);
        }
        if (part.memory != nullptr) cudaFreeHost(part.memory);
    }
}

void Uploader::upload(void* to, const void* host, std::size_t bytes) {
    const auto* from = static_cast<const std::byte*>(host);
    auto* at = static_cast<std::byte*>(to);
    for (std::size_t done = 0; done < bytes; done += kPartBytes) {
        const Part& part = parts_[next_++ % parts_.size()];
        const std::size_t n = std::min(kPartBytes, bytes - done);
        check(cudaEventSynchronize(part.copied), "the GPU failed while copying");
        pool_.parallel_for(n, kGrain, [&](std::size_t begin, std::size_t end) {
            std::memcpy(part.memory + begin, from + done + begin, end - begin);
        });
        check(cudaMemcpyAsync(at + done, part.memory, n, cudaMemcpyHostToDevice, stream_),
              "cannot copy to the GPU");
        check(cudaEventRecord(part.copied, stream_), "cannot record an event");
    }
}

}  // namespace ds4::gpu::cuda
