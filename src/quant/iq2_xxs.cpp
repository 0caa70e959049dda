#include "quant/iq2_xxs.h"

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

// The codebook of ggml (LICENSE-THIRD-PARTY), two bits per element: element j of a row is bits 2j and 2j + 1,
// 0 -> 8, 1 -> 25, 2 -> 43. It was found by clustering and follows no formula.
constexpr std::uint16_t kGridCodes[256] = {
#include "quant/iq2_xxs_codes.inc"
};

constexpr std::array<std::uint64_t, 256> expand_grid() {
    constexpr std::uint64_t kMagnitudes[3] = {8, 25, 43};
    std::array<std::uint64_t, 256> grid{};
    for (std::size_t row = 0; row < 256; ++row) {
        for (int j = 0; j < 8; ++j) grid[row] |= kMagnitudes[(kGridCodes[row] >> (2 * j)) & 3] << (8 * j);
    }
    return grid;
}

constexpr std::array<std::uint8_t, 1024> pair_codes() {
    std::array<std::uint8_t, 1024> nibbles{};
    for (std::size_t k = 0; k < 4; ++k) {
        for (std::size_t row = 0; row < 256; ++row) {
            const unsigned low = (kGridCodes[row] >> (2 * k)) & 3,
                           high = (kGridCodes[row] >> (2 * k + 8)) & 3;
            nibbles[256 * k + row] = static_cast<std::uint8_t>(low | high << 4);
        }
    }
    return nibbles;
}

void decode_group(const GroupIQ2XXS& group, float d, float* values) {
    const float scale = d * (0.5f + static_cast<float>(group.signs_and_scale >> 28)) * 0.25f;
    for (std::size_t l = 0; l < 4; ++l) {
        const std::uint64_t magnitudes = kIq2xxsGrid[group.grid[l]];
        const std::uint8_t signs = iq2xxs_signs((group.signs_and_scale >> (7 * l)) & 127);
        for (std::size_t j = 0; j < 8; ++j) {
            const auto magnitude = static_cast<float>((magnitudes >> (8 * j)) & 255);
            values[8 * l + j] = scale * ((signs >> j) & 1 ? -magnitude : magnitude);
        }
    }
}

void decode(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 256, blocks += sizeof(BlockIQ2XXS)) {
        const float d = f16_to_f32(load<std::uint16_t>(blocks));
        for (std::size_t g = 0; g < 8; ++g) {
            const std::byte* group = blocks + sizeof(std::uint16_t) + g * sizeof(GroupIQ2XXS);
            decode_group(load<GroupIQ2XXS>(group), d, values + i + 32 * g);
        }
    }
}

std::size_t find_bad_scale(const std::byte* blocks, std::size_t n_blocks) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        if (is_f16_nonfinite(load<std::uint16_t>(blocks + b * sizeof(BlockIQ2XXS)))) return b;
    }
    return n_blocks;
}

}  // namespace

constinit const std::array<std::uint64_t, 256> kIq2xxsGrid = expand_grid();
alignas(64) constinit const std::array<std::uint8_t, 1024> kIq2xxsNibbles = pair_codes();

constinit const Format kIQ2XXS{Type::iq2_xxs, "IQ2_XXS", 256,           sizeof(BlockIQ2XXS),
                               decode,        nullptr,   find_bad_scale};

}  // namespace ds4::quant
