// Indexer scores from codes: the same bits on every instruction set, and near the sum in double.
#include "backend/cpu/index_packed.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "backend/cpu/dot_targets.h"
#include "backend/device.h"
#include "quant/kv_rows.h"
#include "quant/rounding.h"

namespace ds4::test {
namespace {

struct Shape {
    std::size_t n_heads, head_dim;
};

// Keys and queries on their grids, with blocks of very different scales and one of zeroes.
struct Inputs {
    Inputs(Random& random, const Shape& s)
        : shape(s),
          format(
              quant::KvRowFormat::indexer(quant::KvFormat::packed, static_cast<std::int64_t>(s.head_dim))) {
        q = values(random, s.n_heads);
        keys = values(random, cpu::kIndexKeys);
        weight = random.gaussian(static_cast<std::int64_t>(s.n_heads));
        stored.resize(cpu::kIndexKeys * format.bytes);
        for (std::size_t k = 0; k < cpu::kIndexKeys; ++k) {
            std::byte* row = stored.data() + k * format.bytes;
            quant::encode_kv_row(format, keys.data() + k * s.head_dim, row);
            rows.push_back(row);
        }
    }

    std::vector<float> values(Random& random, std::size_t n) const {
        std::vector<float> x = random.gaussian(static_cast<std::int64_t>(n * shape.head_dim));
        for (std::size_t b = 0; b < x.size(); b += quant::kFp4Block) {
            const float scale = b == 32 ? 0 : std::ldexp(1.0F, static_cast<int>(random.integer(-6, 6)));
            for (std::size_t i = b; i < b + quant::kFp4Block; ++i) x[i] *= scale;
        }
        quant::round_fp4(x.data(), x.size());
        return x;
    }

    // Magnitudes of the terms, for the tolerance, in `size`.
    double score(std::size_t k, double& size) const {
        double total = 0;
        size = 0;
        for (std::size_t h = 0; h < shape.n_heads; ++h) {
            double dot = 0;
            for (std::size_t i = 0; i < shape.head_dim; ++i) {
                const double product = static_cast<double>(q[h * shape.head_dim + i]) *
                                       static_cast<double>(keys[k * shape.head_dim + i]);
                dot += product;
                size += std::abs(static_cast<double>(weight[h]) * product);
            }
            total += static_cast<double>(weight[h]) * std::max(0.0, dot);
        }
        return total;
    }

    Shape shape;
    quant::KvRowFormat format;
    std::vector<float> q, keys, weight;
    std::vector<std::byte> stored;
    std::vector<const std::byte*> rows;
};

using Scorer = decltype(cpu::packed_index_scores)*;

std::vector<float> scores(const Inputs& in, Scorer scorer) {
    const Shape& s = in.shape;
    std::vector<std::int8_t> q_codes(s.n_heads * s.head_dim);
    std::vector<float> q_scale(q_codes.size() / quant::kFp4Block);
    std::vector<std::int32_t> offset(q_scale.size());
    const cpu::PackedIndexQuery query{q_codes.data(), q_scale.data(), offset.data()};
    cpu::pack_index_query(in.q.data(), in.q.size(), query);
    std::vector<std::uint8_t> key_codes(cpu::kIndexKeys * s.head_dim);
    std::vector<float> key_scale(key_codes.size() / quant::kFp4Block);
    const cpu::PackedIndexKeys keys{key_codes.data(), key_scale.data()};
    cpu::pack_index_keys(in.rows.data(), s.head_dim, keys);
    std::vector<float> out(cpu::kIndexKeys);
    scorer(query, in.weight.data(), s.n_heads, s.head_dim, keys, out.data());
    return out;
}

TEST(PackedIndex, SameBitsOnEveryInstructionSet) {
    Random random(5);
    for (const Shape& shape : {Shape{1, 32}, Shape{4, 64}, Shape{7, 96}, Shape{64, 128}}) {
        const Inputs in(random, shape);
        const std::vector<float> expected = scores(in, cpu::packed_index_scores);
        for (std::size_t k = 0; k < expected.size(); ++k) {
            double size = 0;
            const double exact = in.score(k, size);
            ASSERT_NEAR(static_cast<double>(expected[k]), exact, 1e-6 * size) << k;
        }
        for (const std::int64_t target : cpu::simd_targets()) {
            const cpu::ForcedSimdTarget forced(target);
            for (const Scorer scorer : {cpu::packed_index_scores, cpu::packed_index_scores_without_vnni}) {
                const std::vector<float> actual = scores(in, scorer);
                for (std::size_t k = 0; k < actual.size(); ++k) {
                    ASSERT_EQ(std::bit_cast<std::uint32_t>(actual[k]),
                              std::bit_cast<std::uint32_t>(expected[k]))
                        << shape.n_heads << " heads, target " << target << ", key " << k;
                }
            }
        }
    }
}

}  // namespace
}  // namespace ds4::test
