#include <cmath>
#include <cstdint>
#include <vector>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_chunk.h"
#include "quant/float_bits.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

namespace ds4::cpu {
namespace {

using quant::f16_to_f32;
using quant::load;

// 32 weights: scale * code[i] - minimum_scale * minimum[i / 16].
struct WeightGroup {
    int code[kGroup];
    float scale;
    bool affine = false;
    int minimum[2];
    float minimum_scale;
};

WeightGroup group_of(const quant::BlockQ8_0& block) {
    WeightGroup group{};
    for (std::size_t i = 0; i < kGroup; ++i) group.code[i] = block.q[i];
    group.scale = f16_to_f32(block.d);
    return group;
}

WeightGroup group_of(const quant::BlockMxfp4& block) {
    WeightGroup group{};
    for (std::size_t i = 0; i < kGroup; ++i) {
        group.code[i] = kDoubledE2m1[i < 16 ? block.q[i] & 15 : block.q[i - 16] >> 4];
    }
    group.scale = kHalfScales[block.e];
    return group;
}

// The K-quants: groups g = 0 .. 7 of a block of 256.
WeightGroup group_of(const quant::BlockQ4K& block, std::size_t g) {
    const quant::ScalesQ4K s = quant::unpack_scales(reinterpret_cast<const std::byte*>(block.scales));
    WeightGroup group{};
    for (std::size_t i = 0; i < kGroup; ++i) {
        const std::uint8_t codes = block.q[32 * (g / 2) + i];
        group.code[i] = g % 2 == 0 ? codes & 15 : codes >> 4;
    }
    group.scale = f16_to_f32(block.d) * s.scale[g];
    group.affine = true;
    group.minimum[0] = group.minimum[1] = s.minimum[g];
    group.minimum_scale = f16_to_f32(block.dmin);
    return group;
}

// The sub-block scales go into the codes, which stay below 46.
WeightGroup group_of(const quant::BlockQ2K& block, std::size_t g) {
    WeightGroup group{};
    for (std::size_t i = 0; i < kGroup; ++i) {
        const int code = (block.q[32 * (g / 4) + i] >> (2 * (g % 4))) & 3;
        group.code[i] = code * (block.scales[2 * g + i / 16] & 15);
    }
    group.scale = f16_to_f32(block.d);
    group.affine = true;
    for (std::size_t half = 0; half < 2; ++half) group.minimum[half] = block.scales[2 * g + half] >> 4;
    group.minimum_scale = f16_to_f32(block.dmin);
    return group;
}

WeightGroup group_of(const quant::BlockIQ2XXS& block, std::size_t g) {
    const quant::GroupIQ2XXS packed = block.groups[g];
    WeightGroup group{};
    for (std::size_t l = 0; l < 4; ++l) {
        const std::uint64_t magnitudes = quant::kIq2xxsGrid[packed.grid[l]];
        const std::uint8_t signs = quant::iq2xxs_signs((packed.signs_and_scale >> (7 * l)) & 127);
        for (std::size_t j = 0; j < 8; ++j) {
            const int magnitude = static_cast<int>((magnitudes >> (8 * j)) & 255);
            group.code[8 * l + j] = (signs >> j) & 1 ? -magnitude : magnitude;
        }
    }
    const auto numerator = static_cast<float>(2 * (packed.signs_and_scale >> 28) + 1);
    group.scale = f16_to_f32(block.d) * 0.125f * numerator;
    return group;
}

// Group g of a row.
WeightGroup group_of(quant::Type type, const std::byte* w, std::size_t g) {
    switch (type) {
        case quant::Type::q8_0:
            return group_of(load<quant::BlockQ8_0>(w + g * sizeof(quant::BlockQ8_0)));
        case quant::Type::mxfp4:
            return group_of(load<quant::BlockMxfp4>(w + g * sizeof(quant::BlockMxfp4)));
        case quant::Type::q2_k:
            return group_of(load<quant::BlockQ2K>(w + g / 8 * sizeof(quant::BlockQ2K)), g % 8);
        case quant::Type::q4_k:
            return group_of(load<quant::BlockQ4K>(w + g / 8 * sizeof(quant::BlockQ4K)), g % 8);
        case quant::Type::iq2_xxs:
            return group_of(load<quant::BlockIQ2XXS>(w + g / 8 * sizeof(quant::BlockIQ2XXS)), g % 8);
        default:
            return {};  // float formats have no groups; I32 is refused by activation_format
    }
}

// (n) values of a prepared activation row; exact in double.
std::vector<double> decode_activation(ActivationFormat format, const std::byte* act, std::size_t n) {
    std::vector<double> values(n);
    for (std::size_t i = 0; i < n; ++i) {
        if (format == ActivationFormat::f32) {
            values[i] = load<float>(act + i * sizeof(float));
            continue;
        }
        const auto& chunk = reinterpret_cast<const ActivationChunk*>(act)[i / kChunk];
        const std::size_t g = i / kGroup % kLanes;
        values[i] = double{chunk.scale[g]} * chunk.code[place_in_chunk(g, i % kGroup)];
    }
    return values;
}

// Adds a group's product to its lane.
float add_group(const WeightGroup& w, const ActivationChunk& chunk, std::size_t g, float sum) {
    int dot = 0;
    for (std::size_t i = 0; i < kGroup; ++i) dot += w.code[i] * chunk.code[place_in_chunk(g, i)];
    float t = static_cast<float>(dot) * w.scale;
    if (w.affine) {
        const int m = w.minimum[0] * chunk.sum[g][0] + w.minimum[1] * chunk.sum[g][1];
        t = std::fma(-static_cast<float>(m), w.minimum_scale, t);
    }
    return std::fma(t, chunk.scale[g], sum);
}

float add_tree(float* lane) {
    for (std::size_t step = kLanes / 2; step != 0; step /= 2) {
        for (std::size_t i = 0; i < step; ++i) lane[i] += lane[i + step];
    }
    return lane[0];
}

// Float weights: value i goes to chain i % 32.
float dot_floats(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act) {
    const quant::Format& f = quant::format(type);
    float sums[2 * kLanes] = {};
    for (std::size_t i = 0; i < n; ++i) {
        float weight = 0;
        f.decode(w + i * f.block_bytes, &weight, 1);
        float& sum = sums[i % (2 * kLanes)];
        sum = std::fma(weight, load<float>(act + i * sizeof(float)), sum);
    }
    for (std::size_t i = 0; i < kLanes; ++i) sums[i] += sums[i + kLanes];
    return add_tree(sums);
}

}  // namespace

float dot_canonical(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act) {
    if (activation_format(type) == ActivationFormat::f32) return dot_floats(type, w, n, act);
    const auto* chunks = reinterpret_cast<const ActivationChunk*>(act);
    float lanes[kLanes] = {};
    for (std::size_t g = 0; g < n / kGroup; ++g) {
        float& lane = lanes[g % kLanes];
        lane = add_group(group_of(type, w, g), chunks[g / kLanes], g % kLanes, lane);
    }
    return add_tree(lanes);
}

double dot_reference(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act) {
    std::vector<float> weights(n);
    quant::format(type).decode(w, weights.data(), n);
    const std::vector<double> activations = decode_activation(activation_format(type), act, n);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += weights[i] * activations[i];
    return sum;
}

}  // namespace ds4::cpu
