#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/checkpoint_config.h"

// The tensors of a model's files, whatever type they are stored in (model.md 3.1, 3.3).
namespace ds4::convert {

// What a tensor is decides its type in each recipe.
enum class Kind {
    projection,      // matrices that were FP8: attention, shared expert; and the output head
    experts,         // stacked along the last dimension
    embedding_like,  // embedding, compressors, indexer, router, hc fn
    vector,
    hash_table,
};

struct TableEntry {
    std::string name;
    std::vector<std::uint64_t> ne;  // ne[0] contiguous
    Kind kind;
    std::vector<std::string> sources;  // names in a checkpoint; one per expert, in order
};

std::vector<TableEntry> trunk_table(const CheckpointConfig& config);
std::vector<TableEntry> mtp_table(const CheckpointConfig& config);

}  // namespace ds4::convert
