// usage: load_bench MODEL.gguf [cuda|emulated [all|open]]
// How fast a model gets into a device's memory, stage by stage: reading alone, copying alone, both, and all
// that Engine::open() does; or only the last, three times. Run it twice: the first run may have to read the
// disk.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/upload_ring.h"
#include "ds4/engine.h"
#include "ds4/error.h"
#include "gguf/gguf.h"

namespace {

using namespace ds4;
using Clock = std::chrono::steady_clock;
using Bytes = std::span<const std::byte>;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

void print(const std::string& stage, double bytes, double seconds) {
    std::printf("%-36s %8.2f GB %8.2f s %8.2f GB/s\n", stage.c_str(), bytes / 1e9, seconds,
                bytes / seconds / 1e9);
    std::fflush(stdout);
}

double total(std::span<const Bytes> ranges) {
    double bytes = 0;
    for (const Bytes& range : ranges) bytes += static_cast<double>(range.size());
    return bytes;
}

// Tensors that share their bytes are read once.
std::vector<Bytes> distinct_ranges(const gguf::File& file) {
    std::vector<Bytes> ranges;
    std::set<const std::byte*> seen;
    for (const gguf::Tensor& t : file.tensors()) {
        if (seen.insert(t.data.data()).second) ranges.push_back(t.data);
    }
    return ranges;
}

// A device that takes everything at once.
class NoCopies final : public gpu::CopyEngine {
  public:
    std::byte* pin(std::size_t bytes) override {
        auto* memory = new std::byte[bytes];
        std::memset(memory, 1, bytes);  // so that its pages are there
        return memory;
    }
    void unpin(std::byte* memory) noexcept override { delete[] memory; }
    void start(std::size_t, void*, const std::byte*, std::size_t) override {}
    void await(std::size_t) override {}
};

void time_reading(std::span<const Bytes> ranges) {
    for (const int n_threads : {1, 2, 4, 8, 16}) {
        NoCopies copies;
        gpu::UploadRing::Options options;
        options.n_threads = n_threads;
        gpu::UploadRing ring(copies, options);
        // A part is enough where a few threads take long.
        const auto part = ranges.first(std::min<std::size_t>(ranges.size(), n_threads < 4 ? 200 : 1400));
        const auto begin = Clock::now();
        for (const Bytes& range : part) ring.upload(nullptr, range);
        print("read, " + std::to_string(n_threads) + " threads", total(part), seconds_since(begin));
    }
}

// From memory that is no file's and stays in the cache of the CPU as far as it can.
void time_copying(gpu::Device& device) {
    constexpr std::size_t kBytes = std::size_t{64} << 20;
    constexpr int kTimes = 100;
    const std::vector<std::byte> host(kBytes, std::byte{1});
    const gpu::Buffer buffer(device, kBytes);
    device.upload(buffer.get(), host.data(), kBytes);
    device.wait();
    const auto begin = Clock::now();
    for (int i = 0; i < kTimes; ++i) device.upload(buffer.get(), host.data(), kBytes);
    device.wait();
    print("memory to device", static_cast<double>(kBytes) * kTimes, seconds_since(begin));
}

void time_loading(gpu::Device& device, std::span<const Bytes> ranges) {
    std::vector<gpu::Buffer> buffers;
    auto begin = Clock::now();
    for (const Bytes& range : ranges) buffers.emplace_back(device, range.size());
    device.wait();
    print("allocate", total(ranges), seconds_since(begin));
    begin = Clock::now();
    for (std::size_t i = 0; i < ranges.size(); ++i)
        device.upload(buffers[i].get(), ranges[i].data(), ranges[i].size());
    device.wait();
    print("file to device", total(ranges), seconds_since(begin));
}

void time_stages(std::span<const Bytes> ranges, BackendKind backend) {
    time_reading(ranges);
    const auto begin = Clock::now();
    const auto device = backend == BackendKind::cuda ? gpu::make_cuda_device() : gpu::make_emulated_device();
    std::printf("%s, opened in %.2f s\n", device->description().c_str(), seconds_since(begin));
    time_copying(*device);
    time_loading(*device, ranges);
}

void time_opening(const std::string& path, BackendKind backend, double bytes) {
    EngineOptions options;
    options.model = path;
    options.backend = backend;
    const auto begin = Clock::now();
    const auto engine = Engine::open(options);
    const auto session = engine->new_session(std::min<std::int64_t>(2048, engine->info().max_context));
    const TokenId token = 1;
    session->append({&token, 1});
    print("Engine::open and a first token", bytes, seconds_since(begin));
}

void run(const std::string& path, BackendKind backend, bool stages) {
    double bytes = 0;
    {
        const gguf::File file = gguf::File::open(path);
        const std::vector<Bytes> ranges = distinct_ranges(file);
        bytes = total(ranges);
        if (stages) time_stages(ranges, backend);
    }
    for (int i = 0; i < (stages ? 1 : 3); ++i) time_opening(path, backend, bytes);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string device = argc > 2 ? argv[2] : "cuda", what = argc > 3 ? argv[3] : "all";
    if (argc < 2 || argc > 4 || (what != "all" && what != "open")) {
        std::fprintf(stderr, "usage: load_bench MODEL.gguf [cuda|emulated [all|open]]\n");
        return 2;
    }
    try {
        run(argv[1], device == "cuda" ? BackendKind::cuda : BackendKind::emulated, what == "all");
        return 0;
    } catch (const Error& error) {
        std::fprintf(stderr, "load_bench: %s\n", error.what());
        return 1;
    }
}
