// The vectorised decoder against quant's, for every code under every scale.
#include "backend/cpu/kv_rows.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace ds4 {
namespace {

using quant::KvFormat;
using quant::KvRowFormat;

void expect_same(const KvRowFormat& format, const std::vector<std::byte>& row) {
    const auto n = static_cast<std::size_t>(format.width);
    std::vector<float> expected(n), actual(n);
    quant::decode_kv_row(format, row.data(), expected.data());
    cpu::decode_kv_row(format, row.data(), actual.data());
    for (std::size_t i = 0; i < n; ++i) {
        if (expected[i] != expected[i]) {
            ASSERT_NE(actual[i], actual[i]) << i;
        } else {
            ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0) << i << ' ' << expected[i];
        }
    }
}

TEST(CpuKvRows, EveryFp8CodeUnderEveryScale) {
    const KvRowFormat format = KvRowFormat::attention(KvFormat::packed, 256, 0);
    std::vector<std::byte> row(format.bytes);
    for (std::size_t i = 0; i < 256; ++i) row[4 + i] = static_cast<std::byte>(i);
    // 0x7f and 0xff are no numbers in E4M3; nothing writes them.
    row[4 + 0x7f] = row[4 + 0xff] = std::byte{0};
    for (int scale = 1; scale < 256; ++scale) {
        std::fill_n(row.begin(), 4, static_cast<std::byte>(scale));
        expect_same(format, row);
    }
}

TEST(CpuKvRows, TailsOfEveryLength) {
    for (std::int64_t n_tail = 0; n_tail < 40; ++n_tail) {
        const KvRowFormat format = KvRowFormat::attention(KvFormat::packed, 64 + n_tail, n_tail);
        std::vector<std::byte> row(format.bytes, std::byte{1});
        for (std::size_t i = 65; i < row.size(); ++i) row[i] = static_cast<std::byte>(i * 37 % 0x70);
        expect_same(format, row);
    }
}

}  // namespace
}  // namespace ds4
