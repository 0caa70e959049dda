#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "convert/checkpoint_config.h"
#include "quant/format.h"

// Model files with random weights, for work on speed and memory without the real ones.
namespace ds4::synth {

// What the published files and a lossless conversion store (model.md 3.1):
//
//   recipe   projections, head   experts            embedding, compressors,   vectors   hash table
//            shared expert       gate and up/down   indexer, router, hc fn
//   q2       Q8_0                IQ2_XXS/Q2_K       F16                       F32       I32
//   q4       Q8_0                Q4_K               F16                       F32       I32
//   bf16     BF16                BF16               BF16                      F32       I32
enum class Recipe { q2, q4, bf16 };

struct SynthOptions {
    convert::CheckpointConfig config;  // vocab_size at least kLeastVocabulary (vocabulary.h)
    Recipe recipe = Recipe::q2;
    std::filesystem::path out;
    std::string name;  // general.name
    // Layers l and l + period share the bytes of their routed experts or of everything else, as far as the
    // shapes are the same; 0: nothing is shared.
    std::uint32_t expert_period = 0;
    std::uint32_t dense_period = 0;
    std::uint64_t seed = 1;
    int threads = 0;  // 0: one per core
    // Called with the bytes written so far and in total; may be empty.
    std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

struct PlannedTensor {
    std::string name;
    std::vector<std::uint64_t> ne;  // ne[0] contiguous
    quant::Type type;
    std::string alias_of;  // name of an earlier tensor; empty: bytes of its own
};

// The tensors of the file in their order.
std::vector<PlannedTensor> plan(const SynthOptions& options);

struct SynthResult {
    std::uint64_t tensor_bytes = 0;  // of all tensors, shared ones as often as they are named
    std::uint64_t file_bytes = 0;    // of tensor data in the file
};

// Writes the file: activations stay finite, logits spread over a few units (scales of model.md 16.2). The
// bytes depend on everything but `threads`. The file appears whole at the end or not at all. Throws IoError,
// GgufError (rows that are not whole blocks of the recipe's types).
SynthResult write_model(const SynthOptions& options);

}  // namespace ds4::synth
