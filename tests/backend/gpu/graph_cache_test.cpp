#include "backend/gpu/graph_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/gpu/devices.h"
#include "backend/gpu/idle_device.h"
#include "backend/gpu/lower.h"
#include "backend/invariance_cases.h"

namespace ds4::test {
namespace {

// y += x, as a list of one operation.
class Adding {
  public:
    static constexpr std::int64_t kWidth = 3;

    explicit Adding(gpu::Device& device)
        : device_(device), x_(device, sizeof(float) * kWidth), y_(device, sizeof(float) * kWidth) {
        const std::vector<float> x{1, 2, 3};
        device.upload(x_.get(), x.data(), x_.bytes());
        device.fill_zero(y_.get(), y_.bytes());
    }
    // Of the first `width` values.
    std::vector<gpu::ops::Op> ops(std::int64_t width = kWidth) const {
        return {gpu::ops::Add{{reinterpret_cast<float*>(x_.get()), 1, width},
                              {reinterpret_cast<float*>(y_.get()), 1, width}}};
    }
    std::vector<float> y() const {
        std::vector<float> host(kWidth);
        device_.download(host.data(), y_.get(), y_.bytes());
        return host;
    }

  private:
    gpu::Device& device_;
    gpu::Buffer x_, y_;
};

// As the backend runs operations.
class Cache {
  public:
    explicit Cache(gpu::Device& device) : graphs(device), lowering_(device) {}

    // Whether they were replayed.
    bool run(const std::vector<gpu::ops::Op>& ops) {
        if (graphs.replay(ops)) return true;
        graphs.run(ops, lowering_.run(ops));
        return false;
    }

    gpu::GraphCache graphs;

  private:
    gpu::Lowering lowering_;
};

class GraphCacheOn : public testing::TestWithParam<GpuUnderTest> {};

TEST_P(GraphCacheOn, ReplaysWhatComesAgain) {
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    Cache cache(*device);
    const Adding one(*device);
    const Adding other(*device);
    for (std::uint64_t i = 0; i < 5; ++i) {
        EXPECT_EQ(cache.run(one.ops()), i >= 2) << i;
        EXPECT_EQ(cache.graphs.n_lists(), i == 0 ? 0U : 1U);
    }
    // Other rows, another shape, one more operation: other lists.
    EXPECT_FALSE(cache.run(other.ops()));
    EXPECT_FALSE(cache.run(one.ops(2)));
    std::vector<gpu::ops::Op> both = one.ops();
    both.push_back(other.ops()[0]);
    EXPECT_FALSE(cache.run(both));
    EXPECT_EQ(one.y(), (std::vector<float>{7, 14, 18}));
    EXPECT_EQ(other.y(), (std::vector<float>{2, 4, 6}));
}

TEST_P(GraphCacheOn, IsBounded) {
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    Cache cache(*device);
    const Adding always(*device);
    std::vector<Adding> others;
    for (std::size_t i = 0; i < gpu::GraphCache::kMaxLists + 3; ++i) others.emplace_back(*device);
    for (const Adding& other : others) {
        cache.run(other.ops());
        cache.run(other.ops());
        cache.run(always.ops());  // stays
    }
    EXPECT_EQ(cache.graphs.n_lists(), gpu::GraphCache::kMaxLists);
    EXPECT_TRUE(cache.run(always.ops()));
    EXPECT_TRUE(cache.run(others.back().ops()));
    EXPECT_FALSE(cache.run(others.front().ops()));
}

TEST_P(GraphCacheOn, ForgetsWhatPointsAtMemoryThatMoved) {
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    Cache cache(*device);
    const Adding adding(*device);
    for (int i = 0; i < 3; ++i) cache.run(adding.ops());
    cache.graphs.clear();
    EXPECT_EQ(cache.graphs.n_lists(), 0U);
    EXPECT_FALSE(cache.run(adding.ops()));
    EXPECT_FALSE(cache.run(adding.ops()));
    EXPECT_TRUE(cache.run(adding.ops()));
}

// The first graph is small, so that the device starts early.
TEST(GraphCache, StartsListsInGrowingParts) {
    IdleDevice::Log log;
    IdleDevice device(log);
    Cache cache(device);
    const Adding adding(device);
    std::vector<gpu::ops::Op> ops;
    for (int i = 0; i < 100; ++i) ops.push_back(adding.ops()[0]);
    for (int i = 0; i < 3; ++i) {
        log.clear();
        cache.run(ops);
        EXPECT_EQ(log.n_launches, 100U);
    }
    EXPECT_EQ(log.graphs, (std::vector<std::size_t>{24, 48, 28}));
}

// The backend's products, on a device that only counts.
class Products {
  public:
    explicit Products(std::int64_t n_in) {
        const auto nowhere = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
        const quant::Format& q8_0 = quant::format(quant::Type::q8_0);
        const Matrix host{nowhere, q8_0.type, n_in,
                          32,      1,         quant::row_bytes(q8_0, static_cast<std::size_t>(n_in))};
        w_ = backend_->place(host, Backend::MatrixUse::product);
        x_.data = y_.data = reinterpret_cast<float*>(nowhere);
        x_.width = n_in;
        y_.width = 32;
    }
    void begin_rows(std::span<const Segment> segments) { backend_->begin_rows(segments); }
    // Of n rows.
    IdleDevice::Log run(std::int64_t n) {
        log_.clear();
        backend_->matmul(w_, {x_.data, n, x_.width}, {y_.data, n, y_.width});
        backend_->flush();
        return log_;
    }

  private:
    IdleDevice::Log log_;
    std::unique_ptr<Backend> backend_ = make_gpu_backend(std::make_unique<IdleDevice>(log_));
    Matrix w_;
    Rows x_, y_;
};

TEST(GraphCache, WorkingMemoryThatMovesIsNoticed) {
    Products products(32);  // no tiles: activations are prepared in working memory
    const auto is_replayed = [&](std::int64_t n) { return !products.run(n).graphs.empty(); };
    for (int i = 0; i < 3; ++i) EXPECT_EQ(is_replayed(1), i >= 2) << i;
    EXPECT_FALSE(is_replayed(10'000));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(is_replayed(1), i >= 2) << i;
}

TEST(GraphCache, ListsKnowWhatTheirRowsAre) {
    Products products(64);  // in tiles: a prompt's rows take two launches, generated ones take one
    const Segment prompt{0, 2, 0, true};
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(products.run(2).n_launches, i == 0 ? 1U : 2U) << i;  // generated at first
        products.begin_rows({});
        for (int k = 0; k < 3; ++k) EXPECT_EQ(products.run(2).n_launches, 1U) << i;
        products.begin_rows({&prompt, 1});
        for (int k = 0; k < 3; ++k) EXPECT_EQ(products.run(2).n_launches, 2U) << i;
    }
}

// The steps of a growing context, in the same memory, against all its rows at once.
TEST_P(GraphCacheOn, GrowingContextGivesTheSameBits) {
    constexpr std::int64_t kSteps = 40, kWindow = 20;
    const Text text(3);
    const auto run = [&](std::int64_t at_once) {
        const std::unique_ptr<Backend> backend = make_gpu_backend(GetParam().make());
        Device device(*backend);
        Random random(1);
        const TestSession session(device, random, {0, kHeadDim, 0, kWindow}, 0, kSteps);
        const Attention spec{kHeads, kHeadDim, kWindow, 0, device.vector(random.gaussian(kHeads))};
        const Rows q = device.result(at_once, kHeads * kHeadDim);
        const Rows kv = device.result(at_once, kHeadDim);
        const Rows out = device.result(at_once, kHeads * kHeadDim);
        std::vector<float> all;
        for (std::int64_t start = 0; start < kSteps; start += at_once) {
            const auto load = [&](Rows to, const std::vector<float>& from) {
                backend->upload(to.data, from.data() + start * to.width,
                                static_cast<std::size_t>(at_once * to.width) * sizeof(float));
            };
            load(q, text.q);
            load(kv, text.kv);
            const TestBatch batch({{start, at_once}});
            const std::vector<LayerHistory> history{session.history()};
            backend->attention(spec, batch.rows(), history, {}, q, kv, out);
            backend->store_window(batch.rows(), history, kv);
            const std::vector<float> part = device.download(out);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    };
    expect_same_bits(run(1), run(kSteps), "steps of one row");
}

INSTANTIATE_TEST_SUITE_P(Gpu, GraphCacheOn, testing::ValuesIn(gpu_devices()),
                         [](const auto& gpu) { return gpu.param.name; });

}  // namespace
}  // namespace ds4::test
