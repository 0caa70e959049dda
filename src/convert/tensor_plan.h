#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/checkpoint_config.h"
#include "gguf/safetensors.h"
#include "quant/format.h"

namespace ds4::convert {

// What kinds of tensors are stored as (model.md 3.1, 3.4):
//
//   recipe   projections, head   experts   embedding, compressors,   vectors   hash table
//            shared expert                 indexer, router, hc fn
//   f32      F32                 F32       F32                       F32       I32
//   bf16     BF16                BF16      BF16                      F32       I32
//   q8       Q8_0                Q8_0      F16                       F32       I32
//
// f32 is exact whatever the checkpoint holds. bf16 loses nothing of a released checkpoint, either: FP8 and
// FP4 values fit BF16 exactly, and what the checkpoint has in F32 stays F32. q8 is the published type of
// everything but the routed experts; it stores a matrix in F16 where its rows are not whole blocks of 32, and
// router and hc fn of the MTP file in F32, as published MTP files do.
enum class Recipe { f32, bf16, q8 };

// One tensor of the GGUF file and where it comes from.
struct PlannedTensor {
    std::string name;
    std::vector<std::uint64_t> ne;  // ne[0] contiguous
    quant::Type type;
    std::vector<std::string> sources;  // checkpoint names; several for stacked experts, in order
    bool is_fallback = false;          // F16 because the rows are not whole blocks of Q8_0
};

// Both throw ModelError if the checkpoint lacks a tensor, or has it in another shape or in a type that holds
// no weights.
std::vector<PlannedTensor> plan_trunk(const CheckpointConfig& config,
                                      const safetensors::Checkpoint& checkpoint, Recipe recipe);
std::vector<PlannedTensor> plan_mtp(const CheckpointConfig& config, const safetensors::Checkpoint& checkpoint,
                                    Recipe recipe);

}  // namespace ds4::convert
