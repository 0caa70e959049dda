// usage: sampler_bench
// What choosing a token costs, by shape of the logits and by settings: the median of many draws in
// microseconds, on one core. The hash of the drawn tokens shows whether two builds draw the same.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "ds4/sampling.h"

namespace {

using ds4::Sampling;

constexpr std::size_t kVocab = 129'280;
constexpr int kDraws = 200;

struct Shape {
    const char* name;
    std::vector<float> logits;
};

// Normal noise, and `n_head` tokens that stand out of it by up to `height`.
Shape make(const char* name, float sigma, int n_head, float height) {
    std::mt19937 random(1);
    std::normal_distribution<float> noise(0, sigma);
    Shape shape{name, std::vector<float>(kVocab)};
    for (float& l : shape.logits) l = noise(random);
    for (int i = 0; i < n_head; ++i)
        shape.logits[random() % kVocab] = height * (1 - static_cast<float>(i) / static_cast<float>(n_head));
    return shape;
}

struct Setting {
    const char* name;
    float temperature, top_p;
    int top_k;
    float min_p;
};

void measure(const Shape& shape, const Setting& s) {
    Sampling sampling{s.temperature, s.top_p, s.top_k, s.min_p, 7};
    std::vector<double> microseconds;
    std::uint64_t hash = 0;
    for (int i = 0; i < kDraws; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const ds4::TokenId id = ds4::sample(shape.logits, sampling, i);
        const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
        microseconds.push_back(elapsed.count());
        hash = hash * 0x9e3779b97f4a7c15ULL + static_cast<std::uint64_t>(id);
    }
    std::nth_element(microseconds.begin(), microseconds.begin() + kDraws / 2, microseconds.end());
    std::printf("%-22s %-22s %9.1f us  %016llx\n", shape.name, s.name, microseconds[kDraws / 2],
                static_cast<unsigned long long>(hash));
    std::fflush(stdout);
}

}  // namespace

int main() {
    const Shape shapes[] = {make("nearly uniform", 0.02F, 0, 0), make("normal, sigma 1", 1, 0, 0),
                            make("wide head", 2, 5000, 12),      make("model-like", 2.5F, 60, 22),
                            make("peaked", 2.5F, 8, 35),         make("all equal", 0, 0, 0)};
    const Setting settings[] = {{"default, min_p 0.05", 1, 1, 0, 0.05F},
                                {"temperature 0.6", 0.6F, 1, 0, 0.05F},
                                {"top_p 0.95", 1, 0.95F, 0, 0},
                                {"top_p 0.95, min_p 0.05", 1, 0.95F, 0, 0.05F},
                                {"top_k 40", 1, 1, 40, 0},
                                {"top_k 40, top_p 0.9", 1, 0.9F, 40, 0},
                                {"top_k 5000", 1, 1, 5000, 0},
                                {"nothing is cut", 1, 1, 0, 0},
                                {"greedy", 0, 1, 0, 0}};
    for (const Shape& shape : shapes) {
        for (const Setting& setting : settings) measure(shape, setting);
    }
}
