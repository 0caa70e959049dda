#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "convert/tensor_plan.h"

namespace ds4::convert {

struct ConvertOptions {
    std::filesystem::path checkpoint;  // directory with config.json, *.safetensors and perhaps tokenizer.json
    std::filesystem::path out;         // trunk
    std::filesystem::path mtp_out;     // MTP block; empty: not written
    Recipe recipe = Recipe::q8;
    std::string
        effort_scheme;  // "2026-04" or "0731": what the weights take effort levels for; empty: not said
    int threads = 0;    // 0: one per core
    // Values decoded at a time (but whole rows): 16 MB of f32, and at most as much encoded.
    std::uint64_t slab_values = std::uint64_t{4} << 20;
    // Called with the bytes written so far and in total; may be empty.
    std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

struct ConvertResult {
    std::uint64_t bytes = 0;  // of tensor data in both files
    bool has_tokenizer = false;
    std::vector<std::string> stored_as_f16;  // GGUF tensors whose rows are not whole blocks of Q8_0
    std::vector<std::string> unused;         // tensors of the checkpoint that no output needed
};

// Checkpoint to GGUF (model.md 3). Everything but the values is checked before the first byte is written.
// Works in slabs of some megabytes, so memory does not grow with the checkpoint; each file appears whole at
// the end or not at all. Throws IoError, SafetensorsError, ModelError, TokenizerError, GgufError.
ConvertResult convert(const ConvertOptions& options);

}  // namespace ds4::convert
