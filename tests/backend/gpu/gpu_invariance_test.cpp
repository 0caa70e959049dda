#include <gtest/gtest.h>

#include <memory>

#include "backend/gpu/devices.h"
#include "backend/invariance_cases.h"

// On a GPU, too, a row's bits do not depend on the rows beside it nor on how a text was cut into steps.
namespace ds4::test {
namespace {

class GpuRows : public testing::TestWithParam<std::tuple<GpuUnderTest, RowOp>> {};

TEST_P(GpuRows, BatchSize) {
    const auto& [device, op] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device.make());
    for (const bool is_prompt : {false, true}) {
        if (is_prompt && !op.has_prompt_kernels) continue;
        const Segment rows{0, 1, 0, is_prompt};
        backend->begin_rows({&rows, 1});
        const std::vector<float> expected = run_in_batches(op, *backend, op.n_rows);
        for (const std::int64_t batch : {1, 4}) {
            expect_same_bits(run_in_batches(op, *backend, batch), expected,
                             std::to_string(batch) + (is_prompt ? " rows of a prompt" : " rows"));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuRows,
                         testing::Combine(testing::ValuesIn(gpu_devices()), testing::ValuesIn(row_ops())),
                         [](const auto& op) {
                             return std::get<0>(op.param).name + "_" + std::get<1>(op.param).name;
                         });

// What one text leaves that is fed alone, in these chunks.
std::vector<float> feed_some(Backend& backend, std::int64_t ratio, const Text& text,
                             const std::vector<std::int64_t>& chunks) {
    Device device(backend);
    Layer layer(device, ratio);
    layer.begin(text);
    for (const std::int64_t n : chunks) layer.step({n});
    return layer.everything(0);
}

class GpuHistory : public testing::TestWithParam<std::tuple<GpuUnderTest, std::int64_t>> {};

TEST_P(GpuHistory, Chunks) {
    const auto& [device, ratio] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device.make());
    const Text text(11);
    const std::vector<float> expected = feed_alone(*backend, ratio, text, {kTokens});
    for (const std::vector<std::int64_t>& chunks : {std::vector<std::int64_t>{1, 64, 7}, {129}}) {
        expect_same_bits(feed_alone(*backend, ratio, text, chunks), expected, std::to_string(chunks[0]));
    }
}

// Rows of a prompt have launches of their own, wherever they stand in the batch.
TEST_P(GpuHistory, PromptsBesideOthers) {
    const auto& [device_under_test, ratio] = GetParam();
    const std::unique_ptr<Backend> backend = make_gpu_backend(device_under_test.make());
    const Text first(11), second(12);
    Device device(*backend);
    Layer layer(device, ratio);
    layer.begin(first);
    layer.begin(second);
    const std::vector<std::int64_t> of_first{1, 40, 3}, of_second{70, 2, 50};
    for (std::size_t i = 0; i < of_first.size(); ++i) {
        const std::int64_t n[] = {of_first[i], of_second[i]};
        const Segment rows[] = {{0, n[0], 0, n[0] > 8}, {n[0], n[1], 0, n[1] > 8}};
        backend->begin_rows(rows);
        layer.step({n[0], n[1]});
    }
    const std::unique_ptr<Backend> other = make_gpu_backend(device_under_test.make());
    expect_same_bits(layer.everything(0), feed_some(*other, ratio, first, of_first), "first");
    expect_same_bits(layer.everything(1), feed_some(*other, ratio, second, of_second), "second");
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuHistory,
                         testing::Combine(testing::ValuesIn(gpu_devices()), testing::Values(0, 4, 128)),
                         [](const auto& ratio) {
                             return std::get<0>(ratio.param).name + "_ratio_" +
                                    std::to_string(std::get<1>(ratio.param));
                         });

}  // namespace
}  // namespace ds4::test
