#pragma once

#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <vector>

#include "backend/backend.h"
#include "ds4/profile.h"

namespace ds4 {

// Any backend, with a stopwatch at each operation. On a device that queues its work a time is that of the
// queueing.
//
// A new operation of Backend gets a line in the part "operations" and a function that says what it costs.
class ProfilingBackend final : public Backend {
  public:
    explicit ProfilingBackend(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

    // The part of the model that operations belong to from here on. The text must outlive the object.
    void enter(std::string_view section) { section_ = section; }
    // What was measured since the last call, by section and operation in the order of their first calls.
    std::vector<OpProfile> take();

    std::string description() const override { return backend_->description() + ", profiled"; }

    // ---- memory: not measured

    void* allocate(std::size_t bytes) override { return backend_->allocate(bytes); }
    void release(void* memory) noexcept override { backend_->release(memory); }
    void upload(void* to, const void* host, std::size_t bytes) override { backend_->upload(to, host, bytes); }
    void download(void* host, const void* from, std::size_t bytes) override {
        backend_->download(host, from, bytes);
    }
    std::optional<DeviceMemory> memory() const override { return backend_->memory(); }
    std::int64_t good_step_rows() const override { return backend_->good_step_rows(); }
    void flush() override { backend_->flush(); }
    Matrix place(const Matrix& host, MatrixUse use) override { return backend_->place(host, use); }
    Matrix place_grouped(const Matrix& host, std::int64_t n_groups) override {
        return backend_->place_grouped(host, n_groups);
    }
    Experts place_experts(const Experts& host) override { return backend_->place_experts(host); }
    void begin_rows(std::span<const Segment> segments) override { backend_->begin_rows(segments); }

    // ---- operations

    void matmul(const Matrix& w, Rows x, Rows y) override;
    void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) override;
    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override;
    void add(Rows x, Rows y) override;
    void arg_max(Rows x, std::int32_t* best) override;
    void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
               Rows streams) override;
    void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) override;
    void hc_expand(Rows y, Rows post, Rows comb, Rows streams) override;
    void hc_head(const HyperConnection& hc, Rows streams, Rows x) override;
    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override;
    void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) override;
    void round_hadamard_fp4(Rows x, std::int64_t head_dim) override;
    void compress(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
                  bool of_indexer, Rows value, Rows score) override;
    void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                     std::int64_t head_dim, const Selection& selection) override;
    void attention(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
                   const Selection& selection, Rows q, Rows kv, Rows out) override;
    void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) override;
    void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
               const Routing& out) override;
    void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) override;
    void swiglu(Rows gate, Rows up, float clamp) override;
    void gated_matmul(const Experts& shared, Rows x, Rows scratch, Rows act) override;
    void mixture(const Experts& routed, const Routing& routing, Rows x, const Experts& shared, Rows act,
                 Rows scratch, Rows y) override;

  private:
    // What one call had to move and to compute.
    struct Work {
        double bytes = 0;
        double ops = 0;
    };
    // Section, operation, and the matrix that tells calls of one operation apart.
    using Key = std::tuple<std::string_view, std::string_view, quant::Type, std::int64_t, std::int64_t>;

    static Work work_of(const Experts& experts, const Routing& routing, Rows x, Rows y);
    template <class Call>
    void measure(std::string_view operation, const Matrix* matrix, const Work& work, const Call& call);
    OpProfile& line(std::string_view operation, const Matrix* matrix);

    std::unique_ptr<Backend> backend_;
    std::string_view section_ = "embedding";
    std::map<Key, std::size_t> index_;  // into lines_
    std::vector<OpProfile> lines_;
};

}  // namespace ds4
