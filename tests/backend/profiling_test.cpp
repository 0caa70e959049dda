#include "backend/profiling.h"

#include <gtest/gtest.h>

#include "backend/reference/reference.h"

namespace ds4 {
namespace {

TEST(ProfilingBackend, CountsCallsBytesAndOperations) {
    ProfilingBackend backend(make_reference_backend());
    std::vector<float> weights(6, 2), x(6, 1), y(4);
    const Matrix w{reinterpret_cast<const std::byte*>(weights.data()), quant::Type::f32, 3, 2, 1, 12};
    backend.enter("first");
    backend.matmul(w, {x.data(), 2, 3}, {y.data(), 2, 2});
    backend.matmul(w, {x.data(), 1, 3}, {y.data(), 1, 2});
    EXPECT_EQ(y[0], 6);
    backend.enter("second");
    backend.add({x.data(), 1, 3}, {x.data() + 3, 1, 3});

    const std::vector<OpProfile> lines = backend.take();
    ASSERT_EQ(lines.size(), 2);
    EXPECT_EQ(lines[0].section, "first");
    EXPECT_EQ(lines[0].operation, "matmul F32 3 x 2");
    EXPECT_EQ(lines[0].calls, 2);
    EXPECT_EQ(lines[0].bytes, 24 + 4 * (6 + 4) + 24 + 4 * (3 + 2));
    EXPECT_EQ(lines[0].ops, 2 * 6 * 2 + 2 * 6);
    EXPECT_GE(lines[0].seconds, 0);
    EXPECT_EQ(lines[1].section, "second");
    EXPECT_EQ(lines[1].operation, "add");
    EXPECT_EQ(lines[1].ops, 0);
    EXPECT_TRUE(backend.take().empty());
}

TEST(ProfilingBackend, TellsShapesApart) {
    ProfilingBackend backend(make_reference_backend());
    std::vector<float> weights(6, 2), x(6, 1), y(6);
    const auto* data = reinterpret_cast<const std::byte*>(weights.data());
    backend.matmul({data, quant::Type::f32, 3, 2, 1, 12}, {x.data(), 1, 3}, {y.data(), 1, 2});
    backend.matmul({data, quant::Type::f32, 2, 3, 1, 8}, {x.data(), 1, 2}, {y.data(), 1, 3});
    EXPECT_EQ(backend.take().size(), 2);
}

}  // namespace
}  // namespace ds4
