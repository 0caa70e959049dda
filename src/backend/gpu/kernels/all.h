#pragma once

// Every shared kernel body.
#include "backend/gpu/kernels/activations.h"
#include "backend/gpu/kernels/attention.h"
#include "backend/gpu/kernels/compress.h"
#include "backend/gpu/kernels/experts.h"
#include "backend/gpu/kernels/fused.h"
#include "backend/gpu/kernels/prepare_attention.h"
#include "backend/gpu/kernels/prepare_experts.h"
#include "backend/gpu/kernels/products.h"
#include "backend/gpu/kernels/rounding.h"
#include "backend/gpu/kernels/rows.h"
#include "backend/gpu/kernels/select.h"
#include "backend/gpu/kernels/streams.h"
