#include "synth/random_blocks.h"

#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>

#include "ds4/error.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

namespace ds4::synth {
namespace {

constexpr std::size_t kQuantiles = 4096;  // the outermost lie at 3.67 deviations
constexpr std::size_t kCodes = 256;       // of Q8_0
constexpr std::size_t kScales = 16;

// Quantiles (n) of the standard normal distribution at the middles of n equal shares.
std::vector<double> normal_quantiles(std::size_t n) {
    std::vector<double> out;
    double x = -10;
    for (std::size_t i = 0; i < n; ++i) {
        const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
        double low = x, high = 10;
        for (int step = 0; step < 50; ++step) {
            x = (low + high) / 2;
            (std::erfc(-x / std::numbers::sqrt2) / 2 < p ? low : high) = x;
        }
        out.push_back(x);
    }
    return out;
}

double deviation_of(const auto& values) {
    double sum = 0;
    for (const auto v : values) sum += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(sum / static_cast<double>(values.size()));
}

// Codes of Q8_0 by a random byte: 127 is the outermost quantile.
const std::array<std::int8_t, kCodes>& codes() {
    static const auto table = [] {
        std::array<std::int8_t, kCodes> out{};
        const std::vector<double> quantiles = normal_quantiles(kCodes);
        for (std::size_t i = 0; i < kCodes; ++i)
            out[i] = static_cast<std::int8_t>(std::lround(quantiles[i] / quantiles.back() * 127));
        return out;
    }();
    return table;
}

// Sub-block scales of the K formats are drawn from the upper half of their range, minima are equal to them
// and the scale of the minima makes the mean zero.
constexpr double kMiddleOf2Bits = 1.5, kDeviationOf2Bits = 1.118033988749895;
constexpr double kMiddleOf4Bits = 7.5, kDeviationOf4Bits = 4.6097722286464435;

double mean_square_of_range(int from, int to) {
    double sum = 0;
    for (int s = from; s < to; ++s) sum += s * s;
    return sum / (to - from);
}

// Deviation of a value of IQ2_XXS with d = 1: of (0.5 + scale) / 4 * magnitude.
double deviation_of_iq2_xxs() {
    double magnitudes = 0, scales = 0;
    for (const std::uint64_t row : quant::kIq2xxsGrid) {
        for (int j = 0; j < 8; ++j) {
            const auto m = static_cast<double>(row >> 8 * j & 0xff);
            magnitudes += m * m / (8 * 256);
        }
    }
    for (int s = 0; s < 16; ++s) scales += (0.5 + s) * (0.5 + s) / 16;
    return std::sqrt(magnitudes * scales) / 4;
}

// Deviation of a value with block scale 1.
double unit_deviation(quant::Type type) {
    switch (type) {
        case quant::Type::q8_0:
            return deviation_of(codes());
        case quant::Type::q2_k:
            return kDeviationOf2Bits * std::sqrt(mean_square_of_range(8, 16));
        case quant::Type::q4_k:
            return kDeviationOf4Bits * std::sqrt(mean_square_of_range(32, 64));
        case quant::Type::iq2_xxs:
            return deviation_of_iq2_xxs();
        default:
            throw Error("no random weights of type " + std::string(quant::format(type).name));
    }
}

bool is_float(quant::Type type) {
    return type == quant::Type::f32 || type == quant::Type::f16 || type == quant::Type::bf16;
}

template <std::size_t size>
void fill_floats(std::span<std::byte> out, Random& random, const std::byte* values) {
    std::size_t at = 0;
    while (at < out.size()) {
        std::uint64_t bits = random.next();
        for (int i = 0; i < 4 && at < out.size(); ++i, bits >>= 16, at += size)
            std::memcpy(out.data() + at, values + (bits & (kQuantiles - 1)) * size, size);
    }
}

// Packed blocks have members at odd addresses, so these are bytes to it.
template <std::size_t size>
void draw(void* to, Random& random) {
    static_assert(size % 8 == 0);
    std::array<std::uint64_t, size / 8> words;
    for (std::uint64_t& word : words) word = random.next();
    std::memcpy(to, words.data(), size);
}

void fill_codes(quant::BlockQ8_0& block, Random& random) {
    std::uint8_t bytes[32];
    draw<sizeof bytes>(bytes, random);
    for (int i = 0; i < 32; ++i) block.q[i] = codes()[bytes[i]];
}

void fill_codes(quant::BlockQ2K& block, Random& random) {
    draw<sizeof block.q>(block.q, random);
    std::uint64_t bits = random.next();
    for (std::uint8_t& s : block.scales) {
        const auto scale = static_cast<std::uint8_t>(8 | (bits & 7));
        s = static_cast<std::uint8_t>(scale * 0x11);
        bits >>= 3;
    }
}

void fill_codes(quant::BlockQ4K& block, Random& random) {
    draw<sizeof block.q>(block.q, random);
    const std::uint64_t bits = random.next();
    std::uint8_t s[8];
    for (int j = 0; j < 8; ++j) s[j] = static_cast<std::uint8_t>(32 | (bits >> 5 * j & 31));
    for (int j = 0; j < 4; ++j) {
        const auto upper = static_cast<std::uint8_t>(s[j + 4] >> 4 << 6);
        block.scales[j] = block.scales[j + 4] = static_cast<std::uint8_t>(s[j] | upper);
        block.scales[j + 8] = static_cast<std::uint8_t>((s[j + 4] & 15) * 0x11);
    }
}

void fill_codes(quant::BlockIQ2XXS& block, Random& random) {
    draw<sizeof block.groups>(reinterpret_cast<std::byte*>(&block) + offsetof(quant::BlockIQ2XXS, groups),
                              random);
}

template <class Block>
void fill_blocks(std::span<std::byte> out, Random& random, std::span<const std::uint16_t> scales,
                 std::span<const std::uint16_t> minima) {
    for (std::size_t at = 0; at < out.size(); at += sizeof(Block)) {
        Block block;
        const std::size_t scale = random.next() % kScales;
        block.d = scales[scale];
        if constexpr (requires { block.dmin; }) block.dmin = minima[scale];
        fill_codes(block, random);
        quant::store(out.data() + at, block);
    }
}

}  // namespace

RandomBlocks::RandomBlocks(quant::Type type, double mean, double deviation) : type_(type) {
    if (is_float(type)) {
        const quant::Format& format = quant::format(type);
        std::vector<float> values;
        static const std::vector<double> quantiles = normal_quantiles(kQuantiles);
        for (const double q : quantiles) values.push_back(static_cast<float>(mean + deviation * q));
        values_.resize(quant::row_bytes(format, kQuantiles));
        format.encode(values.data(), values_.data(), kQuantiles);
        return;
    }
    const double middle = type == quant::Type::q2_k ? kMiddleOf2Bits : kMiddleOf4Bits;
    for (std::size_t i = 0; i < kScales; ++i) {
        const double d = deviation / unit_deviation(type) * (0.925 + 0.01 * static_cast<double>(i));
        scales_.push_back(quant::f32_to_f16(static_cast<float>(d)));
        minima_.push_back(quant::f32_to_f16(static_cast<float>(d * middle)));
    }
}

void RandomBlocks::fill(std::span<std::byte> blocks, Random random) const {
    switch (type_) {
        case quant::Type::f32:
            return fill_floats<4>(blocks, random, values_.data());
        case quant::Type::f16:
        case quant::Type::bf16:
            return fill_floats<2>(blocks, random, values_.data());
        case quant::Type::q8_0:
            return fill_blocks<quant::BlockQ8_0>(blocks, random, scales_, minima_);
        case quant::Type::q2_k:
            return fill_blocks<quant::BlockQ2K>(blocks, random, scales_, minima_);
        case quant::Type::q4_k:
            return fill_blocks<quant::BlockQ4K>(blocks, random, scales_, minima_);
        default:
            return fill_blocks<quant::BlockIQ2XXS>(blocks, random, scales_, minima_);
    }
}

}  // namespace ds4::synth
