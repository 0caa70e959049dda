#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "model/config.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace ds4 {

// A row of the streams whose logits are wanted, and where they go.
struct HeadRow {
    std::int64_t row = 0;
    float* host = nullptr;    // (V); nullptr: they stay in Workspace::logits, in the order of the rows
    TokenId* best = nullptr;  // not null: the best of them, as Backend::arg_max says
};

// No more than Workspace::kHeadRows rows if some are to stay.
// Logits of these rows of streams (n, M * E): collapse, norm, output matrix. Trunk and MTP block have their
// own collapse and norm and share the matrix, which is read once for every Workspace::kHeadRows rows.
// model.md 11, 12
void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, std::span<const HeadRow> rows);
// Of all rows -> host (n, V).
void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, float* host);

}  // namespace ds4
