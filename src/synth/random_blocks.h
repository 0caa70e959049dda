#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/format.h"
#include "synth/random.h"

namespace ds4::synth {

// Random weights straight in their stored form: codes are drawn, not encoded, which takes a tenth of the
// time. Float formats and Q8_0 hold quantiles of the normal distribution, the narrow formats uniform codes of
// the same deviation. Block scales vary by a few percent, as a reader that mixes them up must not go
// unnoticed.
class RandomBlocks {
  public:
    // F32, F16, BF16, Q8_0, Q2_K, Q4_K or IQ2_XXS; the quantised ones have mean 0.
    RandomBlocks(quant::Type type, double mean, double deviation);

    // `blocks` is whole blocks of the type.
    void fill(std::span<std::byte> blocks, Random random) const;

  private:
    quant::Type type_;
    std::vector<std::byte> values_;      // kQuantiles encoded values of a float format
    std::vector<std::uint16_t> scales_;  // kScales f16 block scales
    std::vector<std::uint16_t> minima_;  // f16 scale of the minima that belongs to each
};

}  // namespace ds4::synth
