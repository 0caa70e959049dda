// Time of every operation that is no matrix product, at the shapes of Flash (model.md 1), for one row and for
// 512, at 2k and 32k tokens of context: `ops_bench [threads [part of a name]]`. Best times, for on a shared
// machine medians measure the others; with one thread, processor time. One row meets cold caches, as in
// decode, where the weights have passed through them since the layer was last seen. More threads meet warm
// ones, for they would be late from the sleep that emptying the caches sends them to.
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/device.h"
#include "base/thread_pool.h"
#include "quant/rounding.h"

namespace {

using namespace ds4;
using test::Device;
using test::Random;

constexpr std::int64_t kHidden = 4096, kStreams = 4, kHeads = 64, kHeadDim = 512, kRopeDims = 64;
constexpr std::int64_t kIndexHeads = 64, kIndexDim = 128, kTopK = 512, kWindow = 128;
constexpr std::int64_t kExperts = 256, kUsedExperts = 6, kExpertWidth = 2048;
constexpr std::int64_t kPlainLayers = 2, kCsaLayers = 21, kHcaLayers = 20;  // of the 43

double best(const std::vector<double>& values) {
    return *std::min_element(values.begin(), values.end());
}

// A list of stored rows with random values on their grid, in pages as the model has them.
class StoredRows {
  public:
    StoredRows(Random& random, const quant::KvRowFormat& format, std::int64_t n) : format_(format) {
        for (std::int64_t i = 0; i < n; ++i) {
            if (i % kPageRows == 0) {
                memory_.emplace_back(format.bytes * kPageRows);
                pages_.push_back(memory_.back().data());
            }
            std::vector<float> row = random.gaussian(format.width);
            const auto width = static_cast<std::size_t>(format.width);
            if (format.code == quant::KvRowFormat::Code::fp8) {
                quant::round_fp8(row.data(), width - static_cast<std::size_t>(format.n_tail));
            } else {
                quant::round_fp4(row.data(), width);
            }
            quant::encode_kv_row(format, row.data(), view().row(i));
        }
    }

    PagedRows view() const { return {pages_.data(), 0, kLog2PageRows, format_}; }

  private:
    static constexpr int kLog2PageRows = 6;
    static constexpr std::int64_t kPageRows = 1 << kLog2PageRows;

    quant::KvRowFormat format_;
    std::vector<std::vector<std::byte>> memory_;
    std::vector<std::byte*> pages_;
};

class Bench {
  public:
    Bench(int threads, std::string filter)
        : clock_(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC),
          backend_(make_cpu_backend(threads)),
          device_(*backend_),
          filter_(std::move(filter)) {}

    void run(std::int64_t n_rows) {
        n_ = n_rows;
        std::printf("\n%lld row%s; microseconds per row\n", static_cast<long long>(n_), n_ == 1 ? "" : "s");
        rows();
        streams();
        experts();
        for (const std::int64_t context : {2048, 32768}) history(context);
    }

  private:
    // Prints the time of fn per row; returns it in microseconds.
    double time(const std::string& name, const std::function<void()>& fn) {
        if (name.find(filter_) == std::string::npos) return 0;
        std::vector<double> seconds;
        const int n_runs = n_ == 1 ? 31 : 5;
        for (int i = 0; i < n_runs; ++i) {
            if (n_ == 1 && clock_ == CLOCK_PROCESS_CPUTIME_ID) evict();
            wake();
            const double start = now();
            fn();
            seconds.push_back(now() - start);
        }
        const double us = 1e6 * best(seconds) / static_cast<double>(n_);
        std::printf("  %-34s %9.2f\n", name.c_str(), us);
        return us;
    }

    double now() const {
        timespec t{};
        ::clock_gettime(clock_, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    }

    // Drives everything out of the caches.
    void evict() {
        for (std::size_t i = 0; i < filler_.size(); i += 64) sink_ = sink_ + filler_[i];
    }

    // The threads of the pool are awake between the operations of a step.
    void wake() {
        constexpr int kLoops = 200;
        for (int i = 0; i < kLoops; ++i) backend_->add(wake_.slice(0, 2), wake_.slice(2, 2));
    }

    Rows gaussian(std::int64_t width) { return device_.rows(random_.gaussian(n_ * width), width); }

    Rope rope() {
        if (frequency_.empty()) {
            for (std::int64_t i = 0; i < kRopeDims / 2; ++i) {
                const double exponent = -2.0 * static_cast<double>(i) / kRopeDims;
                frequency_.push_back(static_cast<float>(std::pow(160000.0, exponent)));
            }
        }
        return {frequency_.data(), kRopeDims};
    }

    std::vector<std::int32_t> positions(std::int64_t start) const {
        std::vector<std::int32_t> all;
        for (std::int64_t i = 0; i < n_; ++i) all.push_back(static_cast<std::int32_t>(start + i));
        return all;
    }

    void rows() {
        const Rows x = gaussian(kHidden);
        const Rows q = gaussian(kHeads * kHeadDim);
        const Rows kv = gaussian(kHeadDim);
        const Rows index_q = gaussian(kIndexHeads * kIndexDim);
        const auto at = positions(30000);
        const Vector norm = device_.vector(random_.gaussian(kHidden));
        time("rms_norm of x", [&] { backend_->rms_norm(x, norm, kHidden, 1e-6F, x); });
        time("rms_norm of heads", [&] { backend_->rms_norm(q, Vector{}, kHeadDim, 1e-6F, q); });
        time("rope of heads", [&] { backend_->rope(rope(), at, kHeadDim, false, q); });
        time("rope of kv", [&] { backend_->rope(rope(), at, kHeadDim, false, kv); });
        time("rope of indexer heads", [&] { backend_->rope(rope(), at, kIndexDim, false, index_q); });
        time("round_fp8 of kv", [&] { backend_->round_fp8(kv, kRopeDims, true); });
        time("round_hadamard_fp4 of indexer heads",
             [&] { backend_->round_hadamard_fp4(index_q, kIndexDim); });
        time("add", [&] { backend_->add(x, x); });
    }

    void streams() {
        HyperConnection hc;
        hc.fn = device_.matrix(random_, quant::Type::f16, kStreams * (2 + kStreams), kStreams * kHidden);
        hc.base = device_.vector(random_.gaussian(kStreams * (2 + kStreams)));
        hc.scale = device_.vector(random_.gaussian(3));
        hc.n_streams = kStreams;
        hc.sinkhorn_iterations = 20;
        hc.eps = hc.rms_eps = 1e-6F;
        const Rows s = gaussian(kStreams * kHidden);
        const Rows x = gaussian(kHidden);
        const Rows post = gaussian(kStreams);
        const Rows comb = gaussian(kStreams * kStreams);
        time("hc_collapse", [&] { backend_->hc_collapse(hc, s, x, post, comb); });
        time("hc_expand", [&] { backend_->hc_expand(x, post, comb, s); });
    }

    void experts() {
        const Rows logits = gaussian(kExperts);
        const Rows gate = gaussian(kExpertWidth);
        const Rows up = gaussian(kExpertWidth);
        Router router;
        router.n_used = kUsedExperts;
        router.bias = device_.vector(random_.gaussian(kExperts));
        const auto n_used = static_cast<std::size_t>(n_ * kUsedExperts);
        const Routing routing{device_.allocate<std::int32_t>(n_used), device_.allocate<float>(n_used),
                              kUsedExperts};
        const std::vector<TokenId> tokens(static_cast<std::size_t>(n_));
        time("route", [&] { backend_->route(router, tokens, logits, routing); });
        time("swiglu", [&] { backend_->swiglu(gate, up, 10); });
    }

    Frontier frontier(std::int64_t slots, std::int64_t width) {
        return {device_.upload(random_.gaussian(slots * width)),
                device_.upload(random_.gaussian(slots * width))};
    }

    void compress(const std::string& name, std::int64_t ratio, const BatchRows& batch,
                  const LayerHistory& h) {
        const bool of_indexer = name == "indexer";
        Compressor c;
        c.ratio = ratio;
        c.dim = of_indexer ? kIndexDim : kHeadDim;
        const std::int64_t width = ratio == 4 ? 2 * c.dim : c.dim;
        c.ape = device_.matrix(random_, quant::Type::f16, ratio, width);
        c.norm = device_.vector(random_.gaussian(c.dim));
        c.rope = rope();
        c.rms_eps = 1e-6F;
        c.finish = of_indexer ? Compressor::Finish::hadamard_fp4 : Compressor::Finish::fp8;
        const Rows value = gaussian(width);
        const Rows score = gaussian(width);
        time("compress " + name + (ratio == 4 ? " 4" : " 128"), [&] {
            backend_->compress(c, batch, {&h, 1}, of_indexer, value, score);
        });
    }

    // `context` tokens before the batch.
    void history(std::int64_t context) {
        std::printf("  with %lld tokens of context\n", static_cast<long long>(context));
        const std::vector<TokenId> tokens(static_cast<std::size_t>(n_));
        // One row closes a window of both ratios.
        const std::int64_t start = n_ == 1 ? context - 1 : context - n_;
        const auto at = positions(start);
        const Segment segment{0, n_, start};
        const BatchRows batch{tokens, at, {&segment, 1}};
        const auto attention_format =
            quant::KvRowFormat::attention(quant::KvFormat::packed, kHeadDim, kRopeDims);
        const StoredRows csa(random_, attention_format, context / 4);
        const StoredRows hca(random_, attention_format, context / 128);
        const StoredRows index(random_, quant::KvRowFormat::indexer(quant::KvFormat::packed, kIndexDim),
                               context / 4);
        LayerHistory h;
        h.window = device_.upload(random_.gaussian(kWindow * kHeadDim));
        h.window_rows = kWindow;
        h.indexer = index.view();
        h.compressor = frontier(128, kHeadDim);
        h.indexer_compressor = frontier(8, 2 * kIndexDim);

        h.compressed = hca.view();
        compress("attention", 128, batch, h);
        h.compressed = csa.view();
        compress("attention", 4, batch, h);
        compress("indexer", 4, batch, h);

        Selection selection;
        selection.capacity = kTopK;
        selection.rows = device_.allocate<std::int32_t>(static_cast<std::size_t>(n_ * kTopK));
        selection.count = device_.allocate<std::int32_t>(static_cast<std::size_t>(n_));
        const Rows index_q = gaussian(kIndexHeads * kIndexDim);
        backend_->round_hadamard_fp4(index_q, kIndexDim);
        const Rows weight = gaussian(kIndexHeads);
        backend_->select_rows(batch, {&h, 1}, index_q, weight, kIndexDim, selection);
        const double select = time("select_rows", [&] {
            backend_->select_rows(batch, {&h, 1}, index_q, weight, kIndexDim, selection);
        });

        const Rows q = gaussian(kHeads * kHeadDim);
        const Rows kv = gaussian(kHeadDim);
        const Rows out = gaussian(kHeads * kHeadDim);
        Attention spec{kHeads, kHeadDim, kWindow, 0, device_.vector(random_.gaussian(kHeads))};
        const auto attend = [&](const Selection& s) {
            backend_->attention(spec, batch, {&h, 1}, s, q, kv, out);
        };
        const double plain = time("attention, window", [&] { attend({}); });
        spec.ratio = 4;
        const double with_csa = time("attention, CSA", [&] { attend(selection); });
        spec.ratio = 128;
        h.compressed = hca.view();
        const double with_hca = time("attention, HCA", [&] { attend({}); });
        time("store_window", [&] { backend_->store_window(batch, {&h, 1}, kv); });
        std::printf("  %-34s %9.0f\n", "= attention and select, 43 layers",
                    kPlainLayers * plain + kCsaLayers * (with_csa + select) + kHcaLayers * with_hca);
    }

    clockid_t clock_;
    std::unique_ptr<Backend> backend_;
    Device device_;
    std::string filter_;
    Random random_{1};
    std::vector<float> frequency_;
    std::vector<std::uint8_t> filler_ = std::vector<std::uint8_t>(std::size_t{96} << 20, 1);
    volatile std::uint64_t sink_ = 0;
    Rows wake_ = device_.rows(std::vector<float>(4 * 16384), 16384);
    std::int64_t n_ = 1;
};

// Start and end of a loop: with nothing to do, and with a part for every thread, which waits for the others'.
void time_pool(int threads) {
    ThreadPool pool(threads);
    const auto n = static_cast<std::size_t>(pool.size());
    const auto time = [&](const char* name, const auto& fn) {
        constexpr int kLoops = 500;
        std::vector<double> us;
        for (int i = 0; i < kLoops; ++i) {
            const auto start = std::chrono::steady_clock::now();
            fn();
            us.push_back(1e6 *
                         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        std::sort(us.begin(), us.end());
        std::printf("%s on %zu threads: median %.2f us, best %.2f us\n", name, n, us[kLoops / 2], us[0]);
    };
    time("an empty loop", [&] { pool.parallel_for(n, [](std::size_t, std::size_t) {}); });
    time("a loop that every thread takes part in", [&] {
        std::atomic<std::size_t> arrived{0};
        pool.parallel_for(n, [&](std::size_t begin, std::size_t end) {
            arrived += end - begin;
            while (arrived.load(std::memory_order_relaxed) < n) {
            }
        });
    });
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
    time_pool(threads);
    Bench bench(threads, argc > 2 ? argv[2] : "");
    bench.run(1);
    bench.run(512);
}
