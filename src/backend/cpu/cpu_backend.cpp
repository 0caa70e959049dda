#include "backend/cpu/cpu_backend.h"

#include <cstring>
#include <string>

#include "backend/cpu/attention.h"
#include "backend/cpu/compress.h"
#include "backend/cpu/dot.h"
#include "backend/cpu/experts.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/memory.h"
#include "backend/cpu/rope_tables.h"
#include "backend/cpu/router.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/select_rows.h"
#include "backend/cpu/streams.h"
#include "base/thread_pool.h"

namespace ds4 {
namespace {

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(int n_threads) : pool_(n_threads) {}

    std::string description() const override {
        return "cpu, " + std::to_string(pool_.size()) + (pool_.size() == 1 ? " thread, " : " threads, ") +
               cpu::simd_target();
    }

    void* allocate(std::size_t bytes) override { return cpu::allocate_aligned(bytes); }
    void release(void* memory) noexcept override { cpu::release_aligned(memory); }
    void upload(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
    void download(void* host, const void* from, std::size_t bytes) override {
        std::memcpy(host, from, bytes);
    }
    Matrix place(const Matrix& host, MatrixUse /*use*/) override { return host; }

    void matmul(const Matrix& w, Rows x, Rows y) override { matmul_.run(w, 1, x, y); }
    void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) override {
        matmul_.run(w, n_groups, x, y);
    }
    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override {
        cpu::rms_norm(pool_, x, w, width, eps, y);
    }
    void arg_max(Rows x, std::int32_t* best) override { cpu::arg_max(pool_, x, best); }
    void add(Rows x, Rows y) override { cpu::add(pool_, x, y); }

    void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
               Rows streams) override {
        cpu::embed(pool_, table, tokens, n_streams, streams);
    }
    void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) override {
        streams_.collapse(hc, streams, x, post, comb);
    }
    void hc_expand(Rows y, Rows post, Rows comb, Rows streams) override {
        streams_.expand(y, post, comb, streams);
    }
    void hc_head(const HyperConnection& hc, Rows streams, Rows x) override {
        streams_.collapse(hc, streams, x, Rows{}, Rows{});
    }

    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override {
        cpu::rope(pool_, rope_tables_, rope, positions, head_dim, inverse, x);
    }
    void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) override {
        cpu::round_fp8(pool_, x, n_tail, tail_to_f16);
    }
    void round_hadamard_fp4(Rows x, std::int64_t head_dim) override {
        cpu::round_hadamard_fp4(pool_, x, head_dim);
    }
    void compress(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
                  bool of_indexer, Rows value, Rows score) override {
        compressor_.run(compressor, batch, history, of_indexer, value, score);
    }
    void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                     std::int64_t head_dim, const Selection& selection) override {
        selector_.run(batch, history, q, weight, head_dim, selection);
    }
    void attention(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
                   const Selection& selection, Rows q, Rows kv, Rows out) override {
        attention_.run(attention, batch, history, selection, q, kv, out);
    }
    void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) override {
        cpu::store_window(pool_, batch, history, kv);
    }

    void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
               const Routing& out) override {
        router_.run(router, tokens, logits, out);
    }
    void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) override {
        experts_.run(experts, routing, x, y);
    }
    void swiglu(Rows gate, Rows up, float clamp) override { cpu::swiglu(pool_, gate, up, clamp); }

  private:
    ThreadPool pool_;
    cpu::Matmul matmul_{pool_};
    cpu::Streams streams_{pool_, matmul_};
    cpu::RopeTables rope_tables_{pool_};
    cpu::CompressorRows compressor_{pool_};
    cpu::WindowAttention attention_{pool_};
    cpu::RowSelector selector_{pool_};
    cpu::ExpertRouter router_{pool_};
    cpu::RoutedExperts experts_{pool_};
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int n_threads) {
    return std::make_unique<CpuBackend>(n_threads);
}

}  // namespace ds4
