#pragma once

// The plain bodies of the matrix families; a device that has bodies of its own does without them.
#include "backend/gpu/kernels/repack.h"
#include "backend/gpu/kernels/tile_experts.h"
#include "backend/gpu/kernels/tile_prefill.h"
#include "backend/gpu/kernels/tile_rows.h"
