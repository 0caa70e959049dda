#pragma once

#include "quant/format.h"

// F32, F16 and BF16: one value per block, no scales. model.md 14.5
namespace ds4::quant {

extern const Format kF32;
extern const Format kF16;
extern const Format kBf16;

}  // namespace ds4::quant
