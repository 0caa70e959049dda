// Rate at which dot_row reads weights, per format: `dot_bench [activation rows]`. Single thread; the weights
// are far larger than the caches, as in decode. The first line is the limit: a plain sum over the same
// memory.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/dot.h"

namespace {

using ds4::quant::Format;
using ds4::quant::Type;

constexpr std::size_t kRowValues = 4096;
constexpr std::size_t kWeightBytes = std::size_t{512} << 20;

template <typename F>
double best_seconds(const F& f) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        const auto start = std::chrono::steady_clock::now();
        f();
        best =
            std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

// Random bytes whose 16-bit words are never infinite or NaN as f16 or bf16.
std::vector<std::byte> random_weights() {
    std::vector<std::byte> bytes(kWeightBytes);
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
        const std::uint64_t word = random() & 0xbbbfbbbfbbbfbbbf;
        std::memcpy(&bytes[i], &word, sizeof word);
    }
    return bytes;
}

double read_limit(const std::vector<std::byte>& weights) {
    std::uint64_t total = 0;
    const double seconds = best_seconds([&] {
        std::uint64_t sums[16] = {};
        for (std::size_t i = 0; i < weights.size(); i += sizeof sums) {
            std::uint64_t words[16];
            std::memcpy(words, &weights[i], sizeof words);
            for (std::size_t k = 0; k < 16; ++k) sums[k] += words[k];
        }
        for (const std::uint64_t sum : sums) total += sum;
    });
    if (total == 1) std::puts("");  // uses the sum
    return static_cast<double>(weights.size()) / seconds * 1e-9;
}

double dot_rate(const Format& f, const std::vector<std::byte>& weights, std::size_t n_acts) {
    const auto act_format = ds4::cpu::activation_format(f.type);
    const std::size_t stride = ds4::cpu::activation_bytes(act_format, kRowValues);
    const std::vector<float> x(kRowValues, 0.5f);
    std::vector<std::byte> acts(stride * n_acts);
    for (std::size_t r = 0; r < n_acts; ++r) {
        ds4::cpu::prepare_activation(act_format, x.data(), x.size(), acts.data() + r * stride);
    }
    const std::size_t row_bytes = ds4::quant::row_bytes(f, kRowValues);
    const std::size_t n_rows = weights.size() / row_bytes;
    std::vector<float> y(n_acts);
    const double seconds = best_seconds([&] {
        for (std::size_t row = 0; row < n_rows; ++row) {
            ds4::cpu::dot_row(f.type, weights.data() + row * row_bytes, kRowValues, acts.data(), stride,
                              n_acts, y.data(), 1);
        }
    });
    return static_cast<double>(n_rows * row_bytes) / seconds * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t n_acts = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
    const auto weights = random_weights();
    const double limit = read_limit(weights);
    std::printf("plain read %.1f GB/s\n", limit);
    for (const Format& f : ds4::quant::formats()) {
        if (f.type == Type::i32) continue;
        const double rate = dot_rate(f, weights, n_acts);
        const double values = rate / static_cast<double>(f.block_bytes) * static_cast<double>(f.block_elems);
        std::printf("%-6s %-8s %5.1f GB/s of weights, %3.0f %% of the limit, %6.1f G multiply-adds/s\n",
                    ds4::cpu::simd_target(), f.name.data(), rate, 100 * rate / limit,
                    values * static_cast<double>(n_acts));
    }
}
