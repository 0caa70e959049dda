#pragma once

#include <cstdint>

#include "convert/checkpoint_config.h"

namespace ds4::synth {

// DeepSeek V4 Flash as its config.json has it (model.md 1.1, 1.2), cut to its first n_layers layers (1..43).
// Four layers have all three kinds of attention and both kinds of router. No MTP block.
convert::CheckpointConfig flash_config(std::uint32_t n_layers = 43);

}  // namespace ds4::synth
