#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "model/config.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace ds4 {

// Logits of streams (n, M * E) -> host (n, V): collapse, norm, output matrix. Trunk and MTP block have their
// own collapse and norm and share the matrix. model.md 11, 12
void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, float* host);

}  // namespace ds4
