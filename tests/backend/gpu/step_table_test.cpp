#include "backend/gpu/step_table.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/gpu/batch_table.h"
#include "backend/gpu/devices.h"
#include "backend/session.h"

namespace ds4::test {
namespace {

class StepTableTest : public testing::Test {
  protected:
    const std::int32_t* add(const std::vector<std::int32_t>& values, std::size_t n) {
        return table_.add(std::span(values).first(n));
    }
    std::vector<std::int32_t> on_device(const std::int32_t* at, std::size_t n) {
        std::vector<std::int32_t> host(n);
        device_->download(host.data(), at, n * sizeof(std::int32_t));
        return host;
    }

    std::unique_ptr<gpu::Device> device_ = gpu::make_emulated_device();
    gpu::StepTable table_{*device_};
};

TEST_F(StepTableTest, StoresOnceWhatBeginsAlike) {
    std::vector<std::int32_t> values{1, 2, 3, 4};
    const std::int32_t* const all = add(values, 4);
    EXPECT_EQ(add(values, 4), all);
    EXPECT_EQ(add(values, 2), all);
    const std::vector<std::int32_t> equal = values;  // elsewhere: may change on its own
    EXPECT_NE(add(equal, 4), all);
    values[1] = 5;
    const std::int32_t* const changed = add(values, 3);
    EXPECT_NE(changed, all);
    EXPECT_EQ(add(values, 1), changed);
    const std::int32_t* const longer = add(values, 4);
    EXPECT_NE(longer, changed);
    table_.upload();
    EXPECT_EQ(on_device(all, 4), (std::vector<std::int32_t>{1, 2, 3, 4}));
    EXPECT_EQ(on_device(changed, 3), (std::vector<std::int32_t>{1, 5, 3}));
    EXPECT_EQ(on_device(longer, 4), (std::vector<std::int32_t>{1, 5, 3, 4}));
}

TEST_F(StepTableTest, StepsOfOneShapeFindTheSameAddresses) {
    std::vector<std::int32_t> growing(9), other(7);
    std::vector<const std::int32_t*> seen;
    for (const std::size_t n : {5, 8, 6}) {
        growing[0] = static_cast<std::int32_t>(n);
        const auto* at = table_.add(std::span(growing).first(n), 8);
        seen.push_back(add(other, 7));
        table_.upload();
        EXPECT_EQ(on_device(at, 1)[0], static_cast<std::int32_t>(n));
        table_.clear();
    }
    EXPECT_EQ(seen[1], seen[0]);
    EXPECT_EQ(seen[2], seen[0]);
}

TEST_F(StepTableTest, GrowsInBlocksThatDoNotMove) {
    const std::vector<std::int32_t> small{7}, large(300'000, 8);  // more than a block
    const std::int32_t* const first = add(small, 1);
    const std::int32_t* const second = add(large, large.size());
    table_.upload();
    EXPECT_EQ(on_device(first, 1), small);
    EXPECT_EQ(on_device(second, large.size()), large);
    EXPECT_EQ(add({}, 0), nullptr);
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

}  // namespace
}  // namespace ds4::test
