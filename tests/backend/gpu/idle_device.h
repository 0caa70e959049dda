#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/gpu/device.h"

namespace ds4::test {

// A GPU that does nothing and remembers what it was asked to do: for tests and timings of the host's part.
// Its memory is addresses without anything behind them.
class IdleDevice final : public gpu::Device {
  public:
    struct Log {
        using Time = std::chrono::steady_clock::time_point;

        std::size_t n_launches = 0;       // in graphs or alone
        std::vector<std::size_t> graphs;  // launches of each graph started, in order
        std::size_t n_uploads = 0;
        std::size_t uploaded = 0;  // bytes
        std::optional<Time> first_upload, first_run;

        void clear() { *this = {}; }
    };

    // The log must outlive the device.
    explicit IdleDevice(Log& log) : log_(log) {}

    std::string description() const override { return "idle GPU"; }
    std::optional<DeviceMemory> memory() const override { return std::nullopt; }
    bool multiplies_tiles() const override { return true; }

    void* allocate(std::size_t bytes) override {
        constexpr std::uintptr_t kAlignment = 256;
        const std::uintptr_t at = next_;
        next_ += (bytes + kAlignment) / kAlignment * kAlignment;  // one more, so that none are empty
        return reinterpret_cast<void*>(at);
    }
    void release(void* /*memory*/) noexcept override {}

    void run(std::span<const gpu::Launch> launches) override { note_run(launches.size()); }
    void run(const gpu::Graph& graph) override {
        const std::size_t n = static_cast<const IdleGraph&>(graph).n_launches;
        note_run(n);
        log_.graphs.push_back(n);
    }
    void upload(void* /*to*/, const void* /*host*/, std::size_t bytes) override {
        if (!log_.first_upload) log_.first_upload = std::chrono::steady_clock::now();
        ++log_.n_uploads;
        log_.uploaded += bytes;
    }
    void fill_zero(void* /*to*/, std::size_t /*bytes*/) override {}
    void copy(void* /*to*/, const void* /*from*/, std::size_t /*bytes*/) override {}
    void download(void* /*host*/, const void* /*from*/, std::size_t /*bytes*/) override {}
    void wait() override {}

    std::unique_ptr<gpu::Graph> make_graph(std::span<const gpu::Launch> launches) override {
        return std::make_unique<IdleGraph>(launches.size());
    }

  private:
    struct IdleGraph final : gpu::Graph {
        explicit IdleGraph(std::size_t n) : n_launches(n) {}
        std::size_t n_launches;
    };

    void note_run(std::size_t n_launches) {
        if (!log_.first_run) log_.first_run = std::chrono::steady_clock::now();
        log_.n_launches += n_launches;
    }

    Log& log_;
    std::uintptr_t next_ = std::uintptr_t{1} << 44;
};

}  // namespace ds4::test
