#include "backend/gpu/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backend/gpu/emulated/entries.h"
#include "ds4/error.h"

namespace ds4::gpu {
namespace {

struct EmulatedGraph final : Graph {
    std::vector<Launch> launches;
};

class EmulatedDevice final : public Device {
  public:
    std::string description() const override { return "emulated GPU"; }
    std::optional<DeviceMemory> memory() const override { return std::nullopt; }
    bool multiplies_tiles() const override { return true; }

    void* allocate(std::size_t bytes) override {
        constexpr std::size_t kAlignment = 256;
        const std::size_t rounded =
            (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
        void* memory = std::aligned_alloc(kAlignment, rounded);
        if (memory == nullptr) throw std::bad_alloc();
        return memory;
    }
    void release(void* memory) noexcept override { std::free(memory); }

    void run(std::span<const Launch> launches) override {
        for (const Launch& launch : launches) run_one(launch);
    }
    void run(const Graph& graph) override { run(static_cast<const EmulatedGraph&>(graph).launches); }
    void upload(void* to, const void* host, std::size_t bytes) override { copy(to, host, bytes); }
    void download(void* host, const void* from, std::size_t bytes) override { copy(host, from, bytes); }
    void fill_zero(void* to, std::size_t bytes) override { std::memset(to, 0, bytes); }
    void copy(void* to, const void* from, std::size_t bytes) override {
        if (bytes > 0) std::memcpy(to, from, bytes);
    }
    void wait() override {}

    std::unique_ptr<Graph> make_graph(std::span<const Launch> launches) override {
        auto graph = std::make_unique<EmulatedGraph>();
        graph->launches.assign(launches.begin(), launches.end());
        return graph;
    }

  private:
    void run_one(const Launch& launch) {
        const emulated::Entry entry = emulated::entry(launch.kernel);
        // Of exactly the kernel's size, so that the address sanitizer sees its ends.
        std::vector<std::byte> shared(entry.shared_bytes);
        const emulated::Kernel kernel{entry.name, entry.body, launch.args.data(), shared.data()};
        for (std::uint32_t y = 0; y < launch.grid.y; ++y) {
            for (std::uint32_t x = 0; x < launch.grid.x; ++x) {
                std::fill(shared.begin(), shared.end(), std::byte{0xff});  // NaN
                group_.run(kernel, x, y, entry.n_threads);
            }
        }
    }

    emulated::ThreadGroup group_;
};

}  // namespace

std::unique_ptr<Device> make_emulated_device() {
    return std::make_unique<EmulatedDevice>();
}

}  // namespace ds4::gpu
