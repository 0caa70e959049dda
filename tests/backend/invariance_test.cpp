#include <gtest/gtest.h>

#include <memory>

#include "backend/cpu/cpu_backend.h"
#include "backend/invariance_cases.h"

// A token's bits depend on nothing but its own past: not on its neighbours in the batch, the chunks of the
// prefill, the number of threads.
namespace ds4::test {
namespace {

constexpr int kThreadCounts[] = {1, 2, 4};

class RowInvariance : public testing::TestWithParam<RowOp> {};

TEST_P(RowInvariance, BatchSizeAndThreads) {
    const RowOp& op = GetParam();
    std::vector<float> expected;
    for (const int n_threads : kThreadCounts) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        for (std::int64_t batch = op.n_rows; batch >= 1; --batch) {
            const std::vector<float> actual = run_in_batches(op, *backend, batch);
            if (expected.empty()) expected = actual;
            expect_same_bits(actual, expected,
                             std::to_string(batch) + " rows, " + std::to_string(n_threads) + " threads");
            if (HasFatalFailure()) return;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, RowInvariance, testing::ValuesIn(row_ops()),
                         [](const testing::TestParamInfo<RowOp>& op) { return op.param.name; });

// More rows than one block of routed_experts.
TEST(BlockInvariance, ExpertsAcrossBlocks) {
    constexpr std::int64_t kMany = 530;
    const auto run = [](int n_threads, std::int64_t first, std::int64_t n) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        Device device(*backend);
        return q8_0_experts(device, first, n, kMany);
    };
    std::vector<float> actual = run(2, 0, 5);
    const std::vector<float> rest = run(2, 5, kMany - 5);
    actual.insert(actual.end(), rest.begin(), rest.end());
    expect_same_bits(actual, run(1, 0, kMany), "5 rows and the rest");
}

// More threads than tiles of heads: they divide the keys.
TEST(BlockInvariance, AttentionByHeadsAndByKeys) {
    static constexpr std::int64_t kHeads = 20, kDim = 72, kWindow = 100, kStart = 1900, kQueries = 3;
    const auto run = [](int n_threads) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        Device device(*backend);
        Random random(8);
        const TestSession session(device, random, {4, kDim, 32, kWindow}, kStart, 0);
        const LayerHistory history = session.history();
        const std::vector<std::pair<std::int64_t, std::int64_t>> segments{{kStart - kQueries, kQueries}};
        const TestBatch batch(segments);
        const Attention spec{kHeads, kDim, kWindow, 4, device.vector(random.gaussian(kHeads))};
        const Rows q = device.rows(random.gaussian(kQueries * kHeads * kDim, 2), kHeads * kDim);
        const Rows kv = device.rows(random.gaussian(kQueries * kDim), kDim);
        const Rows out = device.result(kQueries, kHeads * kDim);
        backend->attention(spec, batch.rows(), {&history, 1}, Selection{}, q, kv, out);
        return device.download(out);
    };
    const std::vector<float> expected = run(1);
    expect_same_bits(run(16), expected, "16 threads");
}

class HistoryInvariance : public testing::TestWithParam<std::int64_t> {};

TEST_P(HistoryInvariance, ChunksAndThreads) {
    const Text text(11);
    std::vector<float> expected;
    for (const int n_threads : kThreadCounts) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        const std::vector<std::vector<std::int64_t>> chunkings{
            {kTokens}, {1}, {2}, {3}, {4}, {5, 1}, {127, 1, 2}, {128}, {129}, {19, 20, 21}, {1, 64, 7}};
        for (const auto& chunks : chunkings) {
            const std::vector<float> actual = feed_alone(*backend, GetParam(), text, chunks);
            if (expected.empty()) expected = actual;
            expect_same_bits(
                actual, expected,
                "chunks of " + std::to_string(chunks[0]) + ", " + std::to_string(n_threads) + " threads");
            if (HasFatalFailure()) return;
        }
    }
}

TEST_P(HistoryInvariance, OtherSessionsInTheBatch) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(4);
    const Text texts[] = {Text(11), Text(12), Text(13)};
    Device device(*backend);
    Layer layer(device, GetParam());
    for (const Text& text : texts) layer.begin(text);
    // The sessions move at different speeds and pause.
    std::vector<std::int64_t> left(3, kTokens);
    for (std::int64_t i = 0; left[0] + left[1] + left[2] > 0; ++i) {
        std::vector<std::int64_t> n{1 + i % 3, i % 2 == 0 ? 0 : 9, i % 5 == 0 ? 40 : 1};
        for (std::size_t s = 0; s < 3; ++s) left[s] -= n[s] = std::min(n[s], left[s]);
        if (n[0] + n[1] + n[2] > 0) layer.step(n);
    }
    for (std::size_t s = 0; s < 3; ++s) {
        expect_same_bits(layer.everything(s), feed_alone(*backend, GetParam(), texts[s], {kTokens}),
                         "session " + std::to_string(s));
        if (HasFatalFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, HistoryInvariance, testing::Values(0, 4, 128),
                         [](const testing::TestParamInfo<std::int64_t>& ratio) {
                             return "ratio_" + std::to_string(ratio.param);
                         });

}  // namespace
}  // namespace ds4::test
