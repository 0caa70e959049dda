#pragma once

#include <cuda_runtime.h>

#include "backend/gpu/args.h"

// Attention of prompts where warpgroup products are (sm_90a), for the whole form of attention.cu.
namespace ds4::gpu::cuda {

bool has_prompt_attention(const AttentionArgs& a);
// One kernel, as a dependent launch; if there is one.
cudaError_t launch_prompt_attention(const AttentionArgs& a, cudaStream_t stream);

}  // namespace ds4::gpu::cuda
