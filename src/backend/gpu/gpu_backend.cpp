#include "backend/gpu/gpu_backend.h"

#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend/gpu/batch_table.h"
#include "backend/gpu/fuse.h"
#include "backend/gpu/graph_cache.h"
#include "backend/gpu/lower.h"
#include "backend/gpu/ops.h"
#include "backend/gpu/placement.h"
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
        : device_(std::move(device)), table_(*device_), lowering_(*device_), graphs_(*device_) {}

    std::string description() const override { return device_->description(); }

    // ---- memory

    std::optional<DeviceMemory> memory() const override { return device_->memory(); }
    std::int64_t good_step_rows() const override { return gpu::kPromptRows; }
    void* allocate(std::size_t bytes) override {
        const std::lock_guard lock(mutex_);
        void* memory = device_->allocate(bytes);
        device_->fill_zero(memory, bytes);
        return memory;
    }
    void release(void* memory) noexcept override {
        const std::lock_guard lock(mutex_);
        try {
            run_recorded();  // a recorded operation may still use it
        } catch (...) {
            failure_ = std::current_exception();  // for whoever waits for the result
        }
        device_->release(memory);
    }
    void upload(void* to, const void* host, std::size_t bytes) override {
        const std::lock_guard lock(mutex_);
        run_recorded();
        device_->upload(to, host, bytes);
    }
    void download(void* host, const void* from, std::size_t bytes) override {
        const std::lock_guard lock(mutex_);
        run_recorded();
        device_->download(host, from, bytes);
    }
    void flush() override {
        const std::lock_guard lock(mutex_);
        run_recorded();
    }
    Matrix place(const Matrix& host, MatrixUse use) override {
        const std::lock_guard lock(mutex_);
        return placement_.place(host, use);
    }
    Matrix place_grouped(const Matrix& host, std::int64_t n_groups) override {
        const std::lock_guard lock(mutex_);
        return placement_.place_grouped(host, n_groups);
    }
    Experts place_experts(const Experts& host) override {
        const std::lock_guard lock(mutex_);
        return placement_.place_experts(host);
    }

    void begin_rows(std::span<const Segment> segments) override {
        const std::lock_guard lock(mutex_);
        runs_.clear();
        ops::RowRun run{0, 0, false};
        for (const Segment& s : segments) {
            if (run.n_rows > 0 && s.is_prompt != run.is_prompt) {
                runs_.push_back(run);
                run = {s.first_row, 0, false};
            }
            run.n_rows += s.n_rows;
            run.is_prompt = s.is_prompt;
        }
        runs_.push_back(run);
        knows_runs_ = false;
    }

    // ---- dense

    void matmul(const Matrix& w, Rows x, Rows y) override { grouped_matmul(w, 1, x, y); }
    void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) override {
        record([&] { return ops::Matmul{w, n_groups, x, y}; });
    }
    void low_rank_matmul(const Matrix& w_a, std::int64_t n_groups, const Matrix& w_b, Rows x, Rows between,
                         Rows y) override {
        record([&] { return ops::LowRankMatmul{w_a, n_groups, w_b, x, between, y}; });
    }
    void norm_matmul(Rows x, const Vector& norm, float eps, std::span<const Product> products) override {
        for (const Product& p : products) {
            record([&] { return ops::Matmul{p.w, 1, x, p.y, norm, eps}; });
        }
    }
    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override {
        record([&] { return ops::RmsNorm{x, w, width, eps, y}; });
    }
    void add(Rows x, Rows y) override {
        record([&] { return ops::Add{x, y}; });
    }
    void arg_max(Rows x, std::int32_t* best) override {
        record([&] { return ops::ArgMax{x, best}; });
    }

    // ---- streams

    void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
               Rows streams) override {
        record([&] { return ops::Embed{table, table_.add(tokens), n_streams, streams}; });
    }
    void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) override {
        gpu::check_limit("streams", hc.n_streams, gpu::kMaxStreams);
        record([&] { return ops::HcCollapse{hc, streams, x, post, comb, std::nullopt}; });
    }
    void hc_expand(Rows y, Rows post, Rows comb, Rows streams) override {
        record([&] { return ops::HcExpand{y, post, comb, streams}; });
    }
    void hc_head(const HyperConnection& hc, Rows streams, Rows x) override {
        hc_collapse(hc, streams, x, Rows{}, Rows{});
    }

    // ---- attention

    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override {
        record([&] {
            const std::int32_t* at = table_.add(positions.first(static_cast<std::size_t>(x.n)));
            return ops::Rope{x, at, frequency(rope), rope.n_dims, head_dim, inverse};
        });
    }
    void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) override {
        record([&] { return ops::RoundFp8{x, n_tail, tail_to_f16}; });
    }
    void round_hadamard_fp4(Rows x, std::int64_t head_dim) override {
        gpu::check_limit("indexer dims", head_dim, gpu::kMaxIndexDim);
        record([&] { return ops::RoundHadamardFp4{x, head_dim}; });
    }
    void compress(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
                  bool of_indexer, Rows value, Rows score) override {
        if (compressor.ape.type != quant::Type::f32) throw Error("ape was not placed to be added");
        gpu::check_limit("compressed dims", compressor.dim,
                         of_indexer ? gpu::kMaxIndexDim : gpu::kMaxHeadDim);
        record([&] {
            return ops::Compress{compressor,
                                 frequency(compressor.rope),
                                 batches_.add(batch, history, compressor.ratio),
                                 of_indexer,
                                 value,
                                 score};
        });
    }
    void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                     std::int64_t head_dim, const Selection& selection) override {
        constexpr std::int64_t kRatio = 4;  // only these layers have an indexer
        gpu::check_limit("indexer dims", head_dim, gpu::kMaxIndexDim);
        record([&] {
            return ops::SelectRows{batches_.add(batch, history, kRatio), q, weight, head_dim, selection};
        });
    }
    void attention(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
                   const Selection& selection, Rows q, Rows kv, Rows out) override {
        gpu::check_limit("head dims", attention.head_dim, gpu::kMaxHeadDim);
        record([&] {
            return ops::Attend{attention, batches_.add(batch, history, attention.ratio), selection, q, kv,
                               out};
        });
    }
    void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) override {
        record([&] { return ops::StoreWindow{batches_.add(batch, history, 0), kv}; });
    }

    // ---- experts

    void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
               const Routing& out) override {
        gpu::check_limit("experts", logits.width, gpu::kMaxExperts);
        gpu::check_limit("experts a token", out.n_used, gpu::kMaxUsed);
        record([&] { return ops::Route{router, table_.add(tokens), logits, out}; });
    }
    void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) override {
        record([&] { return ops::RoutedExperts{experts, routing, x, y}; });
    }
    void swiglu(Rows gate, Rows up, float clamp) override {
        record([&] { return ops::Swiglu{gate, up, clamp}; });
    }
    void gated_matmul(const Experts& shared, Rows x, Rows scratch, Rows act) override {
        record([&] { return ops::GatedMatmul{shared, x, scratch, act}; });
    }
    void mixture(const Experts& routed, const Routing& routing, Rows x, const Experts& shared, Rows act,
                 Rows scratch, Rows y) override {
        record([&] { return ops::Mixture{routed, routing, x, shared, act, scratch, y}; });
    }

  private:
    // make() fills the step table and returns the operation.
    template <class Make>
    void record(Make make) {
        const std::lock_guard lock(mutex_);
        if (!knows_runs_) ops_.insert(ops_.end(), runs_.begin(), runs_.end());
        knows_runs_ = true;
        ops_.emplace_back(make());
    }

    const float* frequency(const Rope& rope) {
        return table_.add(std::span(rope.frequency, static_cast<std::size_t>(rope.n_dims / 2)));
    }

    // Starts what was recorded. What was recorded before an error is gone.
    void run_recorded() {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        if (ops_.empty()) return;
        try {
            table_.upload();
            if (!graphs_.replay(ops_)) lower_recorded();
        } catch (...) {
            forget_recorded();
            throw;
        }
        forget_recorded();
    }
    void lower_recorded() {
        const std::span<const gpu::Launch> launches = lowering_.run(gpu::fuse(ops_));
        if (lowering_.has_moved()) graphs_.clear();
        graphs_.run(ops_, launches);
    }
    void forget_recorded() {
        table_.clear();
        ops_.clear();
        knows_runs_ = false;  // a list says itself what its rows are
    }

    // Sessions may be saved and loaded by other threads than the one that runs steps.
    std::mutex mutex_;
    std::exception_ptr failure_;
    std::unique_ptr<gpu::Device> device_;
    gpu::Placement placement_{*device_};
    gpu::StepTable table_;
    gpu::BatchTable batches_{table_};
    gpu::Lowering lowering_;
    gpu::GraphCache graphs_;
    std::vector<ops::Op> ops_;
    std::vector<ops::RowRun> runs_{{0, 0, false}};  // of the operations to come
    bool knows_runs_ = false;                       // ops_
};

}  // namespace

std::unique_ptr<Backend> make_gpu_backend(std::unique_ptr<gpu::Device> device) {
    return std::make_unique<GpuBackend>(std::move(device));
}

}  // namespace ds4
