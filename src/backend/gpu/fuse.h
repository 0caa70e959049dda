#pragma once

#include <vector>

#include "backend/gpu/ops.h"

namespace ds4::gpu {

// Replaces neighbouring operations by one that does the same in one launch, with the same bits:
//   RmsNorm, Rope [, RoundFp8] of the same heads   ->  NormRotate
std::vector<ops::Op> fuse(std::vector<ops::Op> ops);

}  // namespace ds4::gpu
