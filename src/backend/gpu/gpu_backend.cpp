#include "backend/gpu/gpu_backend.h"

#include <vector>

#include "backend/gpu/lower.h"
#include "backend/gpu/ops.h"
#include "backend/gpu/step_table.h"
#include "ds4/error.h"

namespace ds4 {
namespace {

class GpuBackend final : public Backend {
  public:
    explicit GpuBackend(std::unique_ptr<gpu::Device> device)
        : device_(std::move(device)), table_(*device_), lowering_(*device_) {}

    std::string description() const override { return "gpu, " + device_->description(); }

    // ---- memory

    void* allocate(std::size_t bytes) override {
        void* memory = device_->allocate(bytes);
        device_->fill_zero(memory, bytes);
        return memory;
    }
    void release(void* memory) noexcept override {
        try {
            flush();  // a recorded operation may still use it
        } catch (...) {
            // The device is broken, and whoever waits for a result will hear it.
        }
        device_->release(memory);
    }
    void upload(void* to, const void* host, std::size_t bytes) override {
        flush();
        device_->upload(to, host, bytes);
    }
    void download(void* host, const void* from, std::size_t bytes) override {
        flush();
        device_->download(host, from, bytes);
    }
    Matrix place(const Matrix& host, MatrixUse /*use*/) override {
        const std::size_t bytes = static_cast<std::size_t>(host.stack * host.n_out) * host.row_bytes;
        gpu::Buffer& buffer = weights_.emplace_back(*device_, bytes);
        device_->upload(buffer.get(), host.data, bytes);
        Matrix placed = host;
        placed.data = buffer.get();
        return placed;
    }

    // ---- dense

    void matmul(const Matrix&, Rows, Rows) override { todo(); }
    void grouped_matmul(const Matrix&, std::int64_t, Rows, Rows) override { todo(); }
    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override {
        record(gpu::ops::RmsNorm{x, w, width, eps, y});
    }
    void add(Rows x, Rows y) override { record(gpu::ops::Add{x, y}); }

    // ---- streams

    void embed(const Matrix&, std::span<const TokenId>, std::int64_t, Rows) override { todo(); }
    void hc_collapse(const HyperConnection&, Rows, Rows, Rows, Rows) override { todo(); }
    void hc_expand(Rows, Rows, Rows, Rows) override { todo(); }
    void hc_head(const HyperConnection&, Rows, Rows) override { todo(); }

    // ---- attention

    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override {
        const std::span frequency(rope.frequency, static_cast<std::size_t>(rope.n_dims / 2));
        record(gpu::ops::Rope{x, table_.add(positions.first(static_cast<std::size_t>(x.n))),
                              table_.add(frequency), rope.n_dims, head_dim, inverse});
    }
    void round_fp8(Rows, std::int64_t, bool) override { todo(); }
    void round_hadamard_fp4(Rows, std::int64_t) override { todo(); }
    void compress(const Compressor&, const BatchRows&, std::span<const LayerHistory>, bool, Rows,
                  Rows) override {
        todo();
    }
    void select_rows(const BatchRows&, std::span<const LayerHistory>, Rows, Rows, std::int64_t,
                     const Selection&) override {
        todo();
    }
    void attention(const Attention&, const BatchRows&, std::span<const LayerHistory>, const Selection&, Rows,
                   Rows, Rows) override {
        todo();
    }
    void store_window(const BatchRows&, std::span<const LayerHistory>, Rows) override { todo(); }

    // ---- experts

    void route(const Router&, std::span<const TokenId>, Rows, const Routing&) override { todo(); }
    void routed_experts(const Experts&, const Routing&, Rows, Rows) override { todo(); }
    void swiglu(Rows, Rows, float) override { todo(); }

  private:
    [[noreturn]] static void todo() { throw DeviceError("this operation has no GPU kernel yet"); }

    void record(const gpu::ops::Op& op) { ops_.push_back(op); }

    // Runs what was recorded.
    void flush() {
        if (ops_.empty()) return;
        const std::span<const gpu::Launch> launches = lowering_.run(ops_);
        ops_.clear();
        table_.upload();
        table_.clear();
        device_->run(launches);
    }

    std::unique_ptr<gpu::Device> device_;
    std::vector<gpu::Buffer> weights_;
    gpu::StepTable table_;
    gpu::Lowering lowering_;
    std::vector<gpu::ops::Op> ops_;
};

}  // namespace

std::unique_ptr<Backend> make_gpu_backend(std::unique_ptr<gpu::Device> device) {
    return std::make_unique<GpuBackend>(std::move(device));
}

}  // namespace ds4
