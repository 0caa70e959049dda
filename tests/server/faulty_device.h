#pragma once

#include <atomic>
#include <memory>

#include "backend/gpu/device.h"
#include "ds4/error.h"

namespace ds4::test {

// What a test does to the GPU that the engine runs on.
struct Faults {
    static constexpr int kMany = 1'000'000;
    std::atomic<bool> fails_next{false};         // the next launches fail, and everything after them
    std::atomic<bool> fails_at_download{false};  // the same, at the next result: not while weights are placed
    std::atomic<int> n_failed_opens{0};          // so many times there is no device
    std::atomic<bool> is_lost{false};            // it opens no more in this process
    std::atomic<int> n_allocations_left{kMany};  // the device is full after so many
    std::atomic<int> n_opened{0};
};

// A GPU that fails when told to, and from then on for good, as a real one does.
class FaultyDevice final : public gpu::Device {
  public:
    FaultyDevice(std::unique_ptr<gpu::Device> device, Faults& faults)
        : device_(std::move(device)), faults_(faults) {
        ++faults_.n_opened;
    }

    std::string description() const override { return device_->description(); }
    std::optional<DeviceMemory> memory() const override { return kMemory; }
    bool multiplies_tiles() const override { return device_->multiplies_tiles(); }
    void* allocate(std::size_t bytes) override {
        check();
        if (faults_.n_allocations_left-- <= 0)
            throw DeviceMemoryError("the GPU is full; use a shorter --ctx");
        return device_->allocate(bytes);
    }
    void release(void* memory) noexcept override { device_->release(memory); }
    void run(std::span<const gpu::Launch> launches) override {
        fail_if(faults_.fails_next);
        device_->run(launches);
    }
    void run(const gpu::Graph& graph) override {
        fail_if(faults_.fails_next);
        device_->run(graph);
    }
    void upload(void* to, const void* host, std::size_t bytes) override {
        check();
        device_->upload(to, host, bytes);
    }
    void fill_zero(void* to, std::size_t bytes) override {
        check();
        device_->fill_zero(to, bytes);
    }
    void copy(void* to, const void* from, std::size_t bytes) override {
        check();
        device_->copy(to, from, bytes);
    }
    void download(void* host, const void* from, std::size_t bytes) override {
        fail_if(faults_.fails_at_download);
        device_->download(host, from, bytes);
    }
    void wait() override {
        check();
        device_->wait();
    }
    std::unique_ptr<gpu::Graph> make_graph(std::span<const gpu::Launch> launches) override {
        check();
        return device_->make_graph(launches);
    }

    // More than any test needs.
    static constexpr DeviceMemory kMemory{std::size_t{16} << 30, std::size_t{15} << 30};

  private:
    void check() const {
        if (has_failed_) throw DeviceError("the GPU failed: injected");
    }
    void fail_if(std::atomic<bool>& is_told) {
        if (is_told.exchange(false)) has_failed_ = true;
        check();
    }

    const std::unique_ptr<gpu::Device> device_;
    Faults& faults_;
    bool has_failed_ = false;
};

}  // namespace ds4::test
