#include "backend/gpu/graph_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/gpu/batch_table.h"
#include "backend/gpu/devices.h"
#include "backend/invariance_cases.h"

namespace ds4::test {
namespace {

constexpr std::uint32_t kWidth = 3;

// y += x, as a list of one launch.
class Adding {
  public:
    explicit Adding(gpu::Device& device)
        : device_(device), x_(device, sizeof(float) * kWidth), y_(device, sizeof(float) * kWidth) {
        const std::vector<float> x{1, 2, 3};
        device.upload(x_.get(), x.data(), x_.bytes());
        device.fill_zero(y_.get(), y_.bytes());
    }
    std::vector<gpu::Launch> launches(std::uint32_t n_groups_y = 1) const {
        const gpu::AddArgs args{reinterpret_cast<const float*>(x_.get()), reinterpret_cast<float*>(y_.get()),
                                kWidth, kWidth};
        return {gpu::make_launch(gpu::Kernel::add, {1, n_groups_y}, args)};
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

class GraphCacheOn : public testing::TestWithParam<GpuUnderTest> {};

TEST_P(GraphCacheOn, ReplaysWhatComesAgain) {
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    gpu::GraphCache cache(*device);
    const Adding one(*device);
    const Adding other(*device);
    for (std::uint64_t i = 0; i < 4; ++i) {
        cache.run(one.launches());
        EXPECT_EQ(cache.n_replays(), i);  // the first time is no replay
        EXPECT_EQ(cache.n_graphs(), i == 0 ? 0U : 1U);
    }
    // Other arguments, another grid: other lists.
    cache.run(other.launches());
    cache.run(one.launches(2));
    EXPECT_EQ(cache.n_replays(), 3U);
    EXPECT_EQ(one.y(), (std::vector<float>{5, 10, 15}));
    EXPECT_EQ(other.y(), (std::vector<float>{1, 2, 3}));
}

TEST_P(GraphCacheOn, IsBounded) {
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    gpu::GraphCache cache(*device);
    const Adding adding(*device);
    constexpr std::uint32_t kLists = gpu::GraphCache::kMaxGraphs + 3;
    for (std::uint32_t list = 1; list <= kLists; ++list) {
        cache.run(adding.launches(list));
        cache.run(adding.launches(list));
        cache.run(adding.launches(1));  // used all the time: stays
    }
    EXPECT_EQ(cache.n_graphs(), gpu::GraphCache::kMaxGraphs);
    const std::uint64_t n_replays = cache.n_replays();
    cache.run(adding.launches(1));
    EXPECT_EQ(cache.n_replays(), n_replays + 1);
    for (std::uint32_t i = 0; i < gpu::GraphCache::kMaxGraphs; ++i) cache.run(adding.launches(100 + i));
    cache.run(adding.launches(2));  // gone
    EXPECT_EQ(cache.n_replays(), n_replays + 1);
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

// What kernels are told about a batch does not move while a context grows.
TEST(BatchTable, StaysWhereItIs) {
    const std::unique_ptr<gpu::Device> device = gpu::make_emulated_device();
    gpu::StepTable table(*device);
    gpu::BatchTable batches(table);
    std::vector<std::byte*> pages(40, nullptr);
    std::vector<std::int32_t> position(1);
    std::vector<gpu::ops::Batch> seen;
    std::vector<const std::int32_t*> after;
    for (const std::int64_t start : {520, 521, 700, 1000}) {
        LayerHistory h;
        h.compressed = {pages.data(), 0, 3, quant::KvRowFormat::attention(quant::KvFormat::f32, 8, 0)};
        const TestBatch batch({{start, 1}});
        seen.push_back(batches.add(batch.rows(), std::vector<LayerHistory>{h}, 4));
        after.push_back(table.add(std::span<const std::int32_t>(position)));
        table.clear();
        EXPECT_EQ(seen.back().end, seen[0].end) << start;
        EXPECT_EQ(seen.back().args.history, seen[0].args.history) << start;
        EXPECT_EQ(seen.back().args.segments, seen[0].args.segments) << start;
        EXPECT_EQ(after.back(), after[0]) << start;
    }
    EXPECT_GE(seen[0].end, 1001);
}

INSTANTIATE_TEST_SUITE_P(Gpu, GraphCacheOn, testing::ValuesIn(gpu_devices()),
                         [](const auto& gpu) { return gpu.param.name; });

}  // namespace
}  // namespace ds4::test
