#include "backend/cpu/dot.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/dot_chunk.h"
#include "backend/cpu/dot_targets.h"
#include "ds4/error.h"
#include "quant/float_bits.h"
#include "quant/golden.h"

namespace ds4::cpu {
namespace {

using quant::Type;

constexpr Type kWeightTypes[] = {Type::f32,  Type::f16,  Type::bf16,    Type::q8_0,
                                 Type::q2_k, Type::q4_k, Type::iq2_xxs, Type::mxfp4};

// Activation rows start at multiples of 64 bytes.
template <class T>
struct AlignedAllocator {
    using value_type = T;
    static constexpr std::align_val_t kAlignment{64};
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlignment)); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, kAlignment); }
    bool operator==(const AlignedAllocator&) const = default;
};
using Bytes = std::vector<std::byte, AlignedAllocator<std::byte>>;

// Rows of random bits under scales of magnitude 2^-8 .. 2^-4 of either sign; float formats hold gaussian
// values.
class RandomRows {
  public:
    explicit RandomRows(std::uint32_t seed) : random_(seed) {}

    std::vector<float> gaussian(std::size_t n) {
        std::normal_distribution<float> gauss;
        std::vector<float> x(n);
        for (float& v : x) v = gauss(random_);
        return x;
    }

    Bytes weights(Type type, std::size_t n) {
        const quant::Format& f = quant::format(type);
        Bytes row(quant::row_bytes(f, n));
        if (f.block_elems == 1) {
            f.encode(gaussian(n).data(), row.data(), n);
            return row;
        }
        for (std::byte& b : row) b = static_cast<std::byte>(random_());
        for (std::size_t b = 0; b < row.size(); b += f.block_bytes) set_scales(type, row.data() + b);
        return row;
    }

    Bytes activation(Type type, std::size_t n) {
        const ActivationFormat format = activation_format(type);
        Bytes act(activation_bytes(format, n));
        prepare_activation(format, gaussian(n).data(), n, act.data());
        return act;
    }

    // A row length that the format allows, up to about 3000.
    std::size_t length(Type type) {
        const std::size_t block = quant::format(type).block_elems;
        return block * (1 + random_() % (3000 / block));
    }

  private:
    void set_scales(Type type, std::byte* block) {
        switch (type) {
            case Type::q2_k:
                quant::store(block + 80, f16_scale());
                quant::store(block + 82, f16_scale());
                break;
            case Type::q4_k:
                quant::store(block, f16_scale());
                quant::store(block + 2, f16_scale());
                break;
            case Type::mxfp4:
                block[0] = static_cast<std::byte>(119 + random_() % 5);
                break;
            default:
                quant::store(block, f16_scale());
                break;
        }
    }

    std::uint16_t f16_scale() {
        const float magnitude = std::ldexp(1.0f + static_cast<float>(random_() % 1024) / 1024.0f,
                                           -8 + static_cast<int>(random_() % 4));
        return quant::f32_to_f16(random_() % 4 == 0 ? -magnitude : magnitude);
    }

    std::mt19937 random_;
};

// The sum of |w * a|, to scale tolerances. The K-quants subtract their minima as a sum of its own, so that
// there |scale * q| and |minimum| count apart.
double sum_of_magnitudes(Type type, const Bytes& w, std::size_t n, const std::vector<float>& x) {
    const quant::Format& f = quant::format(type);
    std::vector<float> values(n);
    f.decode(w.data(), values.data(), n);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += std::abs(double{values[i]} * x[i]);
    return sum;
}

// What an f32 kernel loses. Each product or block is rounded a few times (unit 2^-24 = 6e-8) and goes through
// a chain of additions; the errors have random signs. ggml's kernels stay within 5e-8 of the sum of
// magnitudes on the golden rows; a lane that is lost or doubled, or a wrong sub-block scale, shows at 1e-3
// and more.
constexpr double kTolerance = 2e-7;

// Appends a row and fills up to `stride` bytes.
void append(const Bytes& row, std::size_t stride, Bytes& rows) {
    rows.insert(rows.end(), row.begin(), row.end());
    rows.resize(rows.size() - row.size() + stride);
}

std::string describe(Type type, std::size_t n) {
    return std::string(quant::format(type).name) + ", n = " + std::to_string(n) + ", on " + simd_target();
}

// The product of one weight row and one activation row.
float dot_row(Type type, const std::byte* w, std::size_t n, const std::byte* act) {
    float y = 0;
    multiply_rows({type, w, 0, 1, n}, {act, 0, 1}, &y, 1);
    return y;
}
float dot_row(Type type, const std::byte* w, std::size_t n, const Bytes& act) {
    return dot_row(type, w, n, act.data());
}

std::uint32_t bits(float x) {
    return std::bit_cast<std::uint32_t>(x);
}

// Every test runs on every instruction set of this machine.
class MultiplyRows : public testing::TestWithParam<std::int64_t> {
  private:
    ForcedSimdTarget forced_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Targets, MultiplyRows, testing::ValuesIn(simd_targets()),
                         [](const testing::TestParamInfo<std::int64_t>& target) {
                             const ForcedSimdTarget forced(target.param);
                             return std::string(simd_target());
                         });

TEST_P(MultiplyRows, AgreesWithReference) {
    RandomRows rows(11);
    for (const Type type : kWeightTypes) {
        for (int repeat = 0; repeat < 20; ++repeat) {
            const std::size_t n = rows.length(type);
            const auto w = rows.weights(type, n);
            const auto x = rows.gaussian(n);
            Bytes act(activation_bytes(activation_format(type), n));
            prepare_activation(activation_format(type), x.data(), n, act.data());
            const float y = dot_row(type, w.data(), n, act);
            const double expected = dot_reference(type, w.data(), n, act.data());
            EXPECT_NEAR(y, expected, kTolerance * sum_of_magnitudes(type, w, n, x)) << describe(type, n);
        }
    }
}

// Weight rows with gaps between them and activation rows, and what their products should be.
struct Products {
    Products(RandomRows& random, Type weights, std::size_t n_values, std::size_t n_rows, std::size_t n_acts)
        : type(weights),
          n(n_values),
          row_bytes(quant::row_bytes(quant::format(type), n) + 3),
          stride(activation_bytes(activation_format(type), n) + 64) {
        for (std::size_t o = 0; o < n_rows; ++o) append(random.weights(type, n), row_bytes, w);
        for (std::size_t r = 0; r < n_acts; ++r) append(random.activation(type, n), stride, acts);
    }

    // Without fused multiply-add the bits are others, but the same for any number of rows.
    float expected(std::int64_t target, std::size_t o, std::size_t r) const {
        const std::byte* row = w.data() + o * row_bytes;
        const std::byte* act = acts.data() + r * stride;
        return fuses_multiply_add(target) ? dot_canonical(type, row, n, act) : dot_row(type, row, n, act);
    }

    // (n_acts, y_stride)
    std::vector<float> multiply(std::size_t n_rows, std::size_t n_acts, std::size_t y_stride) const {
        std::vector<float> y(n_acts * y_stride, -1.0f);
        multiply_rows({type, w.data(), row_bytes, n_rows, n}, {acts.data(), stride, n_acts}, y.data(),
                      y_stride);
        return y;
    }

    Type type;
    std::size_t n, row_bytes, stride;
    Bytes w, acts;
};

// Whatever their number, row by row and in panels, at the ends of rows, alone and among others.
TEST_P(MultiplyRows, BitsAreTheCanonicalOnes) {
    RandomRows random(12);
    constexpr std::size_t kRows = 11, kActs = 11, kYStride = kRows + 2;
    for (const Type type : kWeightTypes) {
        for (int repeat = 0; repeat < 3; ++repeat) {
            const Products products(random, type, random.length(type), kRows, kActs);
            float expected[kActs][kRows];
            for (std::size_t r = 0; r < kActs; ++r) {
                for (std::size_t o = 0; o < kRows; ++o) expected[r][o] = products.expected(GetParam(), o, r);
            }
            for (std::size_t n_acts = 0; n_acts <= kActs; ++n_acts) {
                const std::size_t n_rows = repeat == 0 ? kRows : n_acts;
                const std::vector<float> y = products.multiply(n_rows, n_acts, kYStride);
                for (std::size_t i = 0; i < y.size(); ++i) {
                    const std::size_t o = i % kYStride, r = i / kYStride;
                    const float value = o < n_rows ? expected[r][o] : -1.0f;
                    ASSERT_EQ(bits(y[i]), bits(value))
                        << describe(type, products.n) << ", row " << o << " of " << n_rows
                        << ", activation row " << r << " of " << n_acts << ": " << y[i] << ", not " << value;
                }
            }
        }
    }
}

// Rows longer than a stretch, more activation rows than a panel holds.
TEST_P(MultiplyRows, LongRowsAndManyActivationRows) {
    RandomRows random(17);
    const struct { std::size_t n, rows, acts; } shapes[] = {{8192 + 512 + 256, 5, 5}, {256, 5, 131}};
    for (const Type type : kWeightTypes) {
        for (const auto& [n, n_rows, n_acts] : shapes) {
            const Products products(random, type, n, n_rows, n_acts);
            const std::vector<float> y = products.multiply(n_rows, n_acts, n_rows);
            for (std::size_t i = 0; i < y.size(); ++i) {
                const float value = products.expected(GetParam(), i % n_rows, i / n_rows);
                ASSERT_EQ(bits(y[i]), bits(value)) << describe(type, n) << ", result " << i;
            }
        }
    }
}

// Buffers of exactly the promised sizes at odd addresses; a sanitizer sees reads past them.
TEST_P(MultiplyRows, UnalignedWeightsAndNothingReadBehind) {
    RandomRows rows(13);
    for (const Type type : kWeightTypes) {
        const std::size_t n = rows.length(type);
        const auto act = rows.activation(type, n);
        const auto w = rows.weights(type, n);
        Bytes shifted(w.size() + 1);
        std::copy(w.begin(), w.end(), shifted.begin() + 1);
        EXPECT_EQ(dot_row(type, w.data(), n, act), dot_row(type, shifted.data() + 1, n, act))
            << describe(type, n);
    }
}

TEST_P(MultiplyRows, FloatRowsOfAnyLength) {
    RandomRows rows(14);
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        for (std::size_t n = 0; n <= 80; ++n) {
            const auto w = rows.weights(type, n);
            const auto x = rows.gaussian(n);  // n floats and no more
            const auto* act = reinterpret_cast<const std::byte*>(x.data());
            float y = -1;
            multiply_rows({type, w.data(), 0, 1, n}, {act, 0, 1}, &y, 1);
            const double expected = n == 0 ? 0 : dot_reference(type, w.data(), n, act);
            EXPECT_NEAR(y, expected, kTolerance * sum_of_magnitudes(type, w, n, x)) << describe(type, n);
        }
    }
}

// A weight of each place alone, so that no two errors cancel and every lane, sub-block and sign is checked.
TEST_P(MultiplyRows, EveryPlaceOfABlock) {
    RandomRows rows(15);
    for (const Type type : kWeightTypes) {
        const std::size_t n = 512;
        const auto w = rows.weights(type, n);
        std::vector<float> values(n);
        quant::format(type).decode(w.data(), values.data(), n);
        for (std::size_t i = 0; i < n; ++i) {
            std::vector<float> x(n, 0.0f);
            x[i] = 1;
            Bytes act(activation_bytes(activation_format(type), n));
            prepare_activation(activation_format(type), x.data(), n, act.data());
            const float y = dot_row(type, w.data(), n, act);
            // 63 * 2^-4 * 2 is the largest minimum that can cancel.
            ASSERT_NEAR(y, values[i], 2e-7 * (std::abs(values[i]) + 8))
                << describe(type, n) << ", place " << i;
        }
    }
}

// -128 never leaves ggml's quantiser, but a file may hold it, and 128 does not fit an int8.
TEST_P(MultiplyRows, LargestQ8_0Codes) {
    constexpr std::size_t n = 64;
    for (const int code : {-128, 127}) {
        Bytes w(2 * 34, static_cast<std::byte>(code));
        for (const std::size_t block : {0u, 34u}) quant::store(w.data() + block, std::uint16_t{0x3c00});
        for (const float sign : {-1.0f, 1.0f}) {
            const std::vector<float> x(n, 127 * sign);
            Bytes act(activation_bytes(ActivationFormat::q8_0, n));
            prepare_activation(ActivationFormat::q8_0, x.data(), n, act.data());
            const float y = dot_row(Type::q8_0, w.data(), n, act);
            EXPECT_EQ(y, static_cast<float>(n) * 127 * sign * static_cast<float>(code)) << simd_target();
        }
    }
}

TEST_P(MultiplyRows, NonFiniteActivationsGiveNan) {
    RandomRows rows(16);
    for (const Type type : kWeightTypes) {
        const std::size_t n = 768;
        const auto w = rows.weights(type, n);
        for (const float bad : {NAN, INFINITY, -INFINITY}) {
            auto x = rows.gaussian(n);
            x[300] = bad;
            Bytes act(activation_bytes(activation_format(type), n));
            prepare_activation(activation_format(type), x.data(), n, act.data());
            const float y = dot_row(type, w.data(), n, act);
            EXPECT_FALSE(std::isfinite(y)) << describe(type, n);
        }
    }
}

// ---- golden/quant/dot.json

// A row of ggml's Q8_0 or Q8_K blocks in the layout of prepare_activation.
Bytes from_ggml(ActivationFormat format, const std::vector<std::byte>& blocks, std::size_t n) {
    const bool q8_0 = format == ActivationFormat::q8_0;
    const std::size_t block = q8_0 ? 32 : 256;
    const std::size_t block_bytes = q8_0 ? 34 : 292;
    Bytes act(activation_bytes(format, n));
    auto* chunks = reinterpret_cast<ActivationChunk*>(act.data());
    for (std::size_t i = 0; i < n; ++i) {
        const std::byte* in = blocks.data() + i / block * block_bytes;
        const std::size_t g = i % kChunk / kGroup;
        ActivationChunk& chunk = chunks[i / kChunk];
        const auto code = quant::load<std::int8_t>(in + (q8_0 ? 2 : 4) + i % block);
        chunk.code[place_in_chunk(g, i % kGroup)] = code;
        chunk.sum[g][i % kGroup / 16] = static_cast<std::int16_t>(chunk.sum[g][i % kGroup / 16] + code);
        chunk.scale[g] = q8_0 ? quant::f16_to_f32(quant::load<std::uint16_t>(in)) : quant::load<float>(in);
    }
    return act;
}

nlohmann::json golden_dots() {
    std::ifstream file(std::string(DS4_TEST_DATA) + "/golden/quant/dot.json");
    return nlohmann::json::parse(file);
}

Bytes golden_activation(ActivationFormat format, int act, std::size_t n) {
    const std::string suffix = format == ActivationFormat::q8_0 ? ".q8_0.bin" : ".q8_k.bin";
    return from_ggml(format, test::read_golden("quant/dot.act" + std::to_string(act) + suffix), n);
}

TEST_P(MultiplyRows, Golden) {
    const auto golden = golden_dots();
    const auto n = golden.at("n").get<std::size_t>();
    const std::pair<const char*, Type> types[] = {
        {"Q8_0", Type::q8_0}, {"Q2_K", Type::q2_k}, {"Q4_K", Type::q4_k}, {"IQ2_XXS", Type::iq2_xxs}};
    for (const auto& [name, type] : types) {
        const auto& entry = golden.at("types").at(name);
        const auto rows = test::read_golden("quant/" + entry.at("rows_file").get<std::string>());
        const auto row_bytes = entry.at("row_bytes").get<std::size_t>();
        ASSERT_EQ(entry.at("dots").size(), 16u);
        for (const auto& dot : entry.at("dots")) {
            const auto act = golden_activation(activation_format(type), dot.at("act").get<int>(), n);
            const std::byte* w = rows.data() + dot.at("row").get<std::size_t>() * row_bytes;
            const float y = dot_row(type, w, n, act);
            const double exact = dot.at("exact_q8").get<double>();
            const double sum_abs = dot.at("sum_abs").get<double>();
            EXPECT_NEAR(y, exact, kTolerance * sum_abs) << describe(type, n) << ": " << dot.dump();
            // The golden sums round no weight of the K-quants; our decoder rounds scale * q - min to f32.
            EXPECT_NEAR(dot_reference(type, w, n, act.data()), exact, 1e-8 * sum_abs) << name;
        }
    }
}

// ---- Activations

const ActivationChunk* chunks_in(const Bytes& row) {
    return reinterpret_cast<const ActivationChunk*>(row.data());
}

TEST(Activation, FormatsAndSizes) {
    EXPECT_EQ(activation_format(Type::bf16), ActivationFormat::f32);
    EXPECT_EQ(activation_format(Type::mxfp4), ActivationFormat::q8_0);
    EXPECT_EQ(activation_format(Type::iq2_xxs), ActivationFormat::q8_k);
    EXPECT_THROW(activation_format(Type::i32), Error);
    EXPECT_EQ(activation_bytes(ActivationFormat::f32, 80), 320u);
    EXPECT_EQ(activation_bytes(ActivationFormat::f32, 81), 384u);
    EXPECT_EQ(activation_bytes(ActivationFormat::q8_0, 64), 640u);    // whole chunks of 512 values
    EXPECT_EQ(activation_bytes(ActivationFormat::q8_k, 768), 1280u);  // 512 codes, 32 sums, 16 scales
}

TEST(Activation, CodesAndSumsAreGgmls) {
    for (const int act : {0, 1}) {
        const auto x = test::read_golden_floats("quant/dot.act" + std::to_string(act) + ".f32.bin");
        for (const auto format : {ActivationFormat::q8_0, ActivationFormat::q8_k}) {
            const auto expected = golden_activation(format, act, x.size());
            Bytes out(expected.size());
            prepare_activation(format, x.data(), x.size(), out.data());
            // ggml stores the scale of Q8_0 as f16, with 11 bits; the scale of Q8_K is the same f32.
            const double tolerance = format == ActivationFormat::q8_0 ? 0x1p-11 : 0.0;
            for (std::size_t c = 0; c < chunks_of(x.size()); ++c) {
                const ActivationChunk& a = chunks_in(out)[c];
                const ActivationChunk& b = chunks_in(expected)[c];
                EXPECT_TRUE(std::equal(std::begin(a.code), std::end(a.code), b.code));
                EXPECT_EQ(std::memcmp(a.sum, b.sum, sizeof a.sum), 0);
                for (std::size_t g = 0; g < kLanes; ++g) {
                    EXPECT_NEAR(a.scale[g], b.scale[g], tolerance * std::abs(b.scale[g]));
                }
            }
        }
    }
}

TEST(Activation, ZeroAndTinyBlocksCountAsZero) {
    for (const auto format : {ActivationFormat::q8_0, ActivationFormat::q8_k}) {
        for (const float v : {0.0f, -0.0f, 1e-38f, std::numeric_limits<float>::denorm_min()}) {
            const std::vector<float> x(256, v);
            Bytes out(activation_bytes(format, x.size()), std::byte{0x55});
            prepare_activation(format, x.data(), x.size(), out.data());
            for (const std::byte b : out) EXPECT_EQ(b, std::byte{});
        }
    }
}

TEST(Activation, LargestFloatsStayInRange) {
    constexpr float kMax = std::numeric_limits<float>::max();
    for (const auto format : {ActivationFormat::q8_0, ActivationFormat::q8_k}) {
        std::vector<float> x(256, kMax);
        x[1] = -kMax;
        Bytes out(activation_bytes(format, x.size()));
        prepare_activation(format, x.data(), x.size(), out.data());
        const int sign = format == ActivationFormat::q8_0 ? 1 : -1;  // Q8_K: the largest is -127
        EXPECT_EQ(chunks_in(out)->code[place_in_chunk(0, 0)], 127 * sign);
        EXPECT_EQ(chunks_in(out)->code[place_in_chunk(0, 1)], -127 * sign);
    }
}

}  // namespace
}  // namespace ds4::cpu
