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

INSTANTIATE_TEST_SUITE_P(Gpu, GpuHistory,
                         testing::Combine(testing::ValuesIn(gpu_devices()), testing::Values(0, 4, 128)),
                         [](const auto& ratio) {
                             return std::get<0>(ratio.param).name + "_ratio_" +
                                    std::to_string(std::get<1>(ratio.param));
                         });

}  // namespace
}  // namespace ds4::test
