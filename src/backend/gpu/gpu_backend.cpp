#include "backend/gpu/gpu_backend.h"

#include <string>
#include <vector>

#include "backend/gpu/batch_table.h"
#include "backend/gpu/lower.h"
#include "backend/gpu/ops.h"
#include "backend/gpu/step_table.h"
#include "ds4/error.h"

namespace ds4 {
namespace gpu {
namespace {

void check_limit(const char* what, std::int64_t n, std::int64_t most) {
    if (n <= most) return;
    throw DeviceError(std::string("the GPU kernels have room for ") + std::to_string(most) + " " + what +
                      ", the model has " + std::to_string(n) + "; use --backend cpu");
}

}  // namespace
}  // namespace gpu

namespace {

namespace ops = gpu::ops;

class GpuBackend final : public Backend {
  public:
    explicit GpuBackend(std::unique_ptr<gpu::Device> device)
        : device_(std::move(device)), table_(*device_), lowering_(*device_) {}

    std::string description() const override { return "gpu, " + device_->description(); }

    // ---- memory

    std::optional<DeviceMemory> memory() const override { return device_->memory(); }
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

    void matmul(const Matrix& w, Rows x, Rows y) override { grouped_matmul(w, 1, x, y); }
    void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) override {
        record(ops::Matmul{w, n_groups, x, y});
    }
    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override {
        record(ops::RmsNorm{x, w, width, eps, y});
    }
    void add(Rows x, Rows y) override { record(ops::Add{x, y}); }

    // ---- streams

    void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
               Rows streams) override {
        record(ops::Embed{table, table_.add(tokens), n_streams, streams});
    }
    void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) override {
        gpu::check_limit("streams", hc.n_streams, gpu::kMaxStreams);
        record(ops::HcCollapse{hc, streams, x, post, comb});
    }
    void hc_expand(Rows y, Rows post, Rows comb, Rows streams) override {
        record(ops::HcExpand{y, post, comb, streams});
    }
    void hc_head(const HyperConnection& hc, Rows streams, Rows x) override {
        hc_collapse(hc, streams, x, Rows{}, Rows{});
    }

    // ---- attention

    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override {
        const std::int32_t* at = table_.add(positions.first(static_cast<std::size_t>(x.n)));
        record(ops::Rope{x, at, frequency(rope), rope.n_dims, head_dim, inverse});
    }
    void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) override {
        record(ops::RoundFp8{x, n_tail, tail_to_f16});
    }
    void round_hadamard_fp4(Rows x, std::int64_t head_dim) override {
        gpu::check_limit("indexer dims", head_dim, gpu::kMaxIndexDim);
        record(ops::RoundHadamardFp4{x, head_dim});
    }
    void compress(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
                  bool of_indexer, Rows value, Rows score) override {
        gpu::check_limit("compressed dims", compressor.dim,
                         of_indexer ? gpu::kMaxIndexDim : gpu::kMaxHeadDim);
        record(ops::Compress{compressor, frequency(compressor.rope),
                             batches_.add(batch, history, compressor.ratio), of_indexer, value, score});
    }
    void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                     std::int64_t head_dim, const Selection& selection) override {
        constexpr std::int64_t kRatio = 4;  // only these layers have an indexer
        gpu::check_limit("indexer dims", head_dim, gpu::kMaxIndexDim);
        record(ops::SelectRows{batches_.add(batch, history, kRatio), q, weight, head_dim, selection});
    }
    void attention(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
                   const Selection& selection, Rows q, Rows kv, Rows out) override {
        gpu::check_limit("head dims", attention.head_dim, gpu::kMaxHeadDim);
        record(ops::Attend{attention, batches_.add(batch, history, attention.ratio), selection, q, kv, out});
    }
    void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) override {
        record(ops::StoreWindow{batches_.add(batch, history, 0), kv});
    }

    // ---- experts

    void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
               const Routing& out) override {
        gpu::check_limit("experts", logits.width, gpu::kMaxExperts);
        record(ops::Route{router, table_.add(tokens), logits, out});
    }
    void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) override {
        record(ops::RoutedExperts{experts, routing, x, y});
    }
    void swiglu(Rows gate, Rows up, float clamp) override { record(ops::Swiglu{gate, up, clamp}); }

  private:
    void record(const ops::Op& op) { ops_.push_back(op); }

    const float* frequency(const Rope& rope) {
        return table_.add(std::span(rope.frequency, static_cast<std::size_t>(rope.n_dims / 2)));
    }

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
    gpu::BatchTable batches_{table_};
    gpu::Lowering lowering_;
    std::vector<ops::Op> ops_;
};

}  // namespace

std::unique_ptr<Backend> make_gpu_backend(std::unique_ptr<gpu::Device> device) {
    return std::make_unique<GpuBackend>(std::move(device));
}

}  // namespace ds4
