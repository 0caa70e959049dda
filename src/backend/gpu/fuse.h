#pragma once

#include <vector>

#include "backend/gpu/ops.h"

namespace ds4::gpu {

// Replaces neighbouring operations by one that does the same in one launch, with the same bits:
//   RmsNorm, Rope [, RoundFp8] of the same heads    ->  NormRotate
//   HcCollapse, RmsNorm of its x in place           ->  HcCollapse with a norm
//   HcExpand, HcCollapse [, RmsNorm] of its streams ->  HcCollapse with an expansion
//   Rope, RoundHadamardFp4 of the same heads        ->  RotateRound
//   Attend, StoreWindow, Rope of the result         ->  Attend with both
//   Route, Mixture by it                            ->  Mixture with its route
std::vector<ops::Op> fuse(std::vector<ops::Op> ops);

}  // namespace ds4::gpu
