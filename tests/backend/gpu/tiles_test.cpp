#include "backend/gpu/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "quant/float_bits.h"
#include "quant/format.h"
#include "quant/iq2_xxs.h"

// Tiles are read here as the lanes of a kernel read them, fragment by fragment, and must give the values of
// the file's blocks.
namespace ds4::gpu::tiles {
namespace {

using Tile = std::vector<std::vector<double>>;  // (16, inputs)

struct Words {
    std::vector<std::uint32_t> w;

    std::uint32_t at(std::uint32_t byte) const { return w.at(byte / 4); }
};

double half(std::uint32_t word, std::uint32_t i) {
    return quant::f16_to_f32(static_cast<std::uint16_t>(word >> (16 * i)));
}
int byte(std::uint32_t word, std::uint32_t i) {
    return static_cast<int>(word >> (8 * i) & 255);
}
int signed_byte(std::uint32_t word, std::uint32_t i) {
    return static_cast<std::int8_t>(byte(word, i));
}

// Sets the 16 values of word p of lane's fragment j: (input in the word) -> value.
template <class F>
void set_fragment(Tile& tile, std::uint32_t lane, std::uint32_t j, std::uint32_t p, F value) {
    for (std::uint32_t b = 0; b < 4; ++b) {
        tile[lane / 4 + 8 * (p % 2)][32 * j + 8 * (lane % 4) + 4 * (p / 2) + b] = value(b);
    }
}

Tile read_q8_0(const Words& t) {
    Tile tile(16, std::vector<double>(128));
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        for (std::uint32_t j = 0; j < 4; ++j) {
            const std::uint32_t scales = t.at(kQ8Scales + 16 * (lane / 4) + 4 * j);
            for (std::uint32_t p = 0; p < 4; ++p) {
                const std::uint32_t word = t.at(512 * j + 16 * lane + 4 * p);
                set_fragment(tile, lane, j, p,
                             [&](std::uint32_t b) { return half(scales, p % 2) * signed_byte(word, b); });
            }
        }
    }
    return tile;
}

// As the fragments of m16n8k16 products lie, their inputs in the order of half_place.
Tile read_f16(const Words& t) {
    Tile tile(16, std::vector<double>(64));
    for (std::uint32_t input = 0; input < 64; ++input) {
        const std::uint32_t place = half_place(input), j = place / 16;
        const std::uint32_t second = place % 16 / 8, quarter = place % 8 / 2;
        for (std::uint32_t row = 0; row < 16; ++row) {
            const std::uint32_t lane = row % 8 * 4 + quarter, p = 2 * second + row / 8;
            tile[row][input] = half(t.at(512 * j + 16 * lane + 4 * p), place % 2);
        }
    }
    return tile;
}

// The spare bits of a lane's sign words: byte b is the nibble of the scale with this place.
std::uint32_t spare_nibbles(const Words& t, std::uint32_t lane) {
    std::uint32_t nibbles = 0;
    for (std::uint32_t k = 0; k < 4; ++k) nibbles += (t.at(kIq2Signs + 16 * lane + 4 * k) & 0x01010101u) << k;
    return nibbles;
}

Tile read_iq2_xxs(const Words& t) {
    Tile tile(16, std::vector<double>(256));
    constexpr int kMagnitudes[3] = {8, 25, 43};
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        for (std::uint32_t j = 0; j < 8; ++j) {
            const std::uint32_t nibbles = spare_nibbles(t, (lane & ~3u) + j / 2);
            for (std::uint32_t p = 0; p < 4; ++p) {
                const std::uint32_t place = j % 2 * 2 + p % 2;
                const int row = byte(t.at(16 * lane + 4 * (j / 2)), place);
                const int index = byte(t.at(kIq2Signs + 16 * lane + 4 * (j / 2)), place) >> 1;
                const std::uint32_t select = iq2_selectors(quant::kIq2xxsGrid[static_cast<std::size_t>(row)]);
                const std::uint32_t signs = quant::iq2xxs_signs(static_cast<std::uint32_t>(index));
                const double scale =
                    half(t.at(kIq2D + lane / 4 * 4), p % 2) * (2 * byte(nibbles, place) + 1) / 8;
                set_fragment(tile, lane, j, p, [&](std::uint32_t b) {
                    const std::uint32_t e = 4 * (p / 2) + b;
                    const int magnitude = kMagnitudes[select >> (4 * e) & 15];
                    return scale * (signs >> e & 1 ? -magnitude : magnitude);
                });
            }
        }
    }
    return tile;
}

// d * scaled - dmin * minimum, where the minimum of inputs 16s .. 16s + 15 is column s of a 16 x 16 fragment.
template <class Scaled, class Minimum>
Tile read_with_minima(const Words& t, std::uint32_t d_offset, Scaled scaled, Minimum minimum) {
    Tile tile(16, std::vector<double>(256)), minima(16, std::vector<double>(16));
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        for (std::uint32_t p = 0; p < 4; ++p) {
            for (std::uint32_t i = 0; i < 2; ++i) {
                minima[lane / 4 + 8 * (p % 2)][4 * (lane % 4) + 2 * (p / 2) + i] = minimum(lane, p, i);
            }
        }
        for (std::uint32_t j = 0; j < 8; ++j) {
            for (std::uint32_t p = 0; p < 4; ++p) {
                set_fragment(tile, lane, j, p, [&](std::uint32_t b) { return scaled(lane, j, p, b); });
            }
        }
    }
    for (std::uint32_t r = 0; r < 16; ++r) {
        const std::uint32_t scales = t.at(d_offset + 8 * (r % 8) + 4 * (r / 8));
        for (std::uint32_t e = 0; e < 256; ++e) {
            tile[r][e] = half(scales, 0) * tile[r][e] - half(scales, 1) * minima[r][e / 16];
        }
    }
    return tile;
}

Tile read_q2_k(const Words& t) {
    const auto scaled = [&](std::uint32_t lane, std::uint32_t j, std::uint32_t p, std::uint32_t b) {
        const std::uint32_t word = t.at(512 * (j / 4) + 16 * lane + 4 * (j % 4));
        const std::uint32_t scales = t.at(kQ2kScales + lane / 4 * 16 + lane % 4 / 2 * 8 + 4 * (p % 2));
        return static_cast<double>((word >> (8 * b + 2 * p) & 3) * (scales >> (4 * j) & 15));
    };
    const auto minimum = [&](std::uint32_t lane, std::uint32_t p, std::uint32_t i) {
        return static_cast<double>(t.at(kQ2kMins + 4 * lane) >> (16 * i + 4 * p) & 15);
    };
    return read_with_minima(t, kQ2kD, scaled, minimum);
}

Tile read_q4_k(const Words& t) {
    // Scale and minimum of sub-block j (of 32) of row g + 8 * half, model.md 14.2.
    const auto packed = [&](std::uint32_t g, std::uint32_t half, std::uint32_t i) {
        return static_cast<std::uint32_t>(byte(t.at(kQ4kScales + 64 * (i / 4) + 8 * g + 4 * half), i % 4));
    };
    const auto scale = [&](std::uint32_t g, std::uint32_t h, std::uint32_t j) {
        return j < 4 ? packed(g, h, j) & 63 : (packed(g, h, j + 4) & 15) | packed(g, h, j - 4) >> 6 << 4;
    };
    const auto minimum_of = [&](std::uint32_t g, std::uint32_t h, std::uint32_t j) {
        return j < 4 ? packed(g, h, j + 4) & 63 : packed(g, h, j + 4) >> 4 | packed(g, h, j) >> 6 << 4;
    };
    const auto scaled = [&](std::uint32_t lane, std::uint32_t j, std::uint32_t p, std::uint32_t b) {
        const std::uint32_t word = t.at(512 * (j / 2) + 16 * lane + 8 * (j % 2) + 4 * (p / 2));
        return static_cast<double>((word >> (8 * b + 4 * (p % 2)) & 15) * scale(lane / 4, p % 2, j));
    };
    const auto minimum = [&](std::uint32_t lane, std::uint32_t p, std::uint32_t) {
        return static_cast<double>(minimum_of(lane / 4, p % 2, 2 * (lane % 4) + p / 2));
    };
    return read_with_minima(t, kQ4kD, scaled, minimum);
}

struct Case {
    Layout layout;
    quant::Type type;
    Tile (*read)(const Words&);
    std::uint32_t n_out, n_in;
};

class Tiles : public testing::TestWithParam<Case> {};

// Whether an f16 scale stands at this offset of a block.
bool is_scale(quant::Type type, std::size_t at) {
    switch (type) {
        case quant::Type::q2_k:
            return at >= 80;
        case quant::Type::q4_k:
            return at < 4;
        default:
            return at == 0;
    }
}

// Blocks of random codes; scales of magnitude 1 to 2, so that no value hides another's error.
std::vector<std::byte> random_blocks(const quant::Format& f, std::size_t n_blocks) {
    std::mt19937 random(7);
    std::vector<std::byte> blocks(n_blocks * f.block_bytes);
    for (std::byte& b : blocks) b = static_cast<std::byte>(random() & 255);
    for (std::size_t i = 0; i < n_blocks; ++i) {
        std::byte* block = blocks.data() + i * f.block_bytes;
        for (std::size_t at = 0; at + 1 < f.block_bytes; at += 2) {
            if (!is_scale(f.type, at)) continue;
            const auto word = quant::load<std::uint16_t>(block + at);
            quant::store(block + at, static_cast<std::uint16_t>((word & 0x83ff) | 0x3c00));
        }
    }
    return blocks;
}

TEST_P(Tiles, HoldTheValuesOfTheFile) {
    const Case& c = GetParam();
    const Shape s = shape(c.layout);
    const quant::Format& f = quant::format(c.type);
    ASSERT_EQ(f.block_elems, s.block_elems);
    ASSERT_EQ(f.block_bytes, s.block_bytes);
    EXPECT_EQ(s.bytes, 16 * quant::row_bytes(f, s.inputs)) << "a tile has the file's size";
    const auto blocks = random_blocks(f, c.n_out * (c.n_in / f.block_elems));
    std::vector<float> values(c.n_out * c.n_in);
    f.decode(blocks.data(), values.data(), values.size());

    const Source source{reinterpret_cast<const std::uint8_t*>(blocks.data()), c.n_out, c.n_in};
    for (std::uint32_t row_tile = 0; row_tile < divide_up(c.n_out, kRows); ++row_tile) {
        for (std::uint32_t input_tile = 0; input_tile < divide_up(c.n_in, s.inputs); ++input_tile) {
            Words t{std::vector<std::uint32_t>(s.bytes / 4)};
            for (std::uint32_t w = 0; w < t.w.size(); ++w) {
                t.w[w] = word(c.layout, source, row_tile, input_tile, w);
            }
            const Tile tile = c.read(t);
            double largest = 0;
            for (const auto& row : tile) {
                for (const double v : row) largest = std::max(largest, std::abs(v));
            }
            for (std::uint32_t r = 0; r < kRows; ++r) {
                for (std::uint32_t e = 0; e < s.inputs; ++e) {
                    const std::uint32_t row = row_tile * kRows + r, i = input_tile * s.inputs + e;
                    const double want = row < c.n_out && i < c.n_in ? values[row * c.n_in + i] : 0;
                    ASSERT_NEAR(tile[r][e], want, 1e-6 * std::abs(want) + 1e-6 * largest)
                        << "row " << row << " input " << i;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Tiles,
                         testing::Values(Case{Layout::q8_0, quant::Type::q8_0, read_q8_0, 35, 288},
                                         Case{Layout::f16, quant::Type::f16, read_f16, 18, 80},
                                         Case{Layout::iq2_xxs, quant::Type::iq2_xxs, read_iq2_xxs, 24, 512},
                                         Case{Layout::q2_k, quant::Type::q2_k, read_q2_k, 24, 512},
                                         Case{Layout::q4_k, quant::Type::q4_k, read_q4_k, 24, 512}),
                         [](const auto& test) { return std::string(quant::format(test.param.type).name); });

}  // namespace
}  // namespace ds4::gpu::tiles
