#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "gguf/writer.h"

namespace ds4::test {

// The metadata of a small model as a map, so that a test can change or remove one key and write the file.
using MetadataValue =
    std::variant<std::uint32_t, float, bool, std::string, std::vector<std::int32_t>, std::vector<float>>;
using Metadata = std::map<std::string, MetadataValue>;

inline Metadata small_metadata() {
    using U = std::uint32_t;
    const std::string p = "deepseek4.";
    return {
        {"general.architecture", std::string("deepseek4")},
        {p + "block_count", U{3}},
        {p + "context_length", U{512}},
        {p + "embedding_length", U{64}},
        {p + "vocab_size", U{32}},
        {p + "attention.head_count", U{4}},
        {p + "attention.head_count_kv", U{1}},
        {p + "attention.key_length", U{80}},
        {p + "attention.value_length", U{80}},
        {p + "rope.dimension_count", U{16}},
        {p + "attention.q_lora_rank", U{32}},
        {p + "attention.output_lora_rank", U{16}},
        {p + "attention.output_group_count", U{2}},
        {p + "attention.sliding_window", U{16}},
        {p + "attention.compress_ratios", std::vector<std::int32_t>{0, 4, 128, 0}},
        {p + "attention.indexer.head_count", U{2}},
        {p + "attention.indexer.key_length", U{32}},
        {p + "attention.indexer.top_k", U{8}},
        {p + "hash_layer_count", U{1}},
        {p + "expert_count", U{4}},
        {p + "expert_used_count", U{2}},
        {p + "expert_shared_count", U{1}},
        {p + "expert_feed_forward_length", U{32}},
        {p + "expert_gating_func", U{4}},
        {p + "expert_weights_norm", true},
        {p + "expert_weights_scale", 1.5F},
        {p + "swiglu_clamp_exp", std::vector<float>{10, 10, 10}},
        {p + "hyper_connection.count", U{4}},
        {p + "hyper_connection.sinkhorn_iterations", U{20}},
        {p + "hyper_connection.epsilon", 1e-6F},
        {p + "attention.layer_norm_rms_epsilon", 1e-6F},
        {p + "rope.freq_base", 10000.0F},
        {p + "attention.compress_rope_freq_base", 160000.0F},
        {p + "rope.scaling.factor", 16.0F},
        {p + "rope.scaling.original_context_length", U{64}},
        {p + "rope.scaling.yarn_beta_fast", 32.0F},
        {p + "rope.scaling.yarn_beta_slow", 1.0F},
    };
}

inline void set(gguf::Writer& writer, const std::string& key, const MetadataValue& value) {
    if (const auto* u = std::get_if<std::uint32_t>(&value)) writer.set_u32(key, *u);
    if (const auto* f = std::get_if<float>(&value)) writer.set_f32(key, *f);
    if (const auto* b = std::get_if<bool>(&value)) writer.set_bool(key, *b);
    if (const auto* s = std::get_if<std::string>(&value)) writer.set_string(key, *s);
    if (const auto* i = std::get_if<std::vector<std::int32_t>>(&value)) writer.set_i32_array(key, *i);
    if (const auto* a = std::get_if<std::vector<float>>(&value)) writer.set_f32_array(key, *a);
}

// A GGUF file with this metadata and no tensors.
inline void write_metadata_file(const std::filesystem::path& path, const Metadata& metadata) {
    gguf::Writer writer(path);
    for (const auto& [key, value] : metadata) set(writer, key, value);
    writer.begin();
    writer.commit();
}

}  // namespace ds4::test
