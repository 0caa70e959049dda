#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gguf/writer.h"
#include "tokenizer/tokenizer.h"

namespace ds4::convert {

// config.json of a released checkpoint, fields named as in the file (model.md 1.1).
struct CheckpointConfig {
    std::uint32_t num_hidden_layers, max_position_embeddings, hidden_size, vocab_size;
    std::uint32_t num_attention_heads, head_dim, qk_rope_head_dim, q_lora_rank, o_lora_rank, o_groups,
        sliding_window;
    std::vector<std::int32_t> compress_ratios;  // at least num_hidden_layers
    std::uint32_t index_n_heads, index_head_dim, index_topk;
    std::uint32_t num_hash_layers, n_routed_experts, num_experts_per_tok, moe_intermediate_size;
    bool norm_topk_prob;
    float routed_scaling_factor, swiglu_limit;
    std::uint32_t hc_mult, hc_sinkhorn_iters;
    float hc_eps, rms_norm_eps, rope_theta, compress_rope_theta;
    float yarn_factor, yarn_beta_fast, yarn_beta_slow;
    std::uint32_t yarn_original_context;
    std::uint32_t num_nextn_predict_layers;
    std::uint32_t bos_token_id, eos_token_id, pad_token_id;

    // Throws IoError, ModelError naming file and field: missing, of the wrong type, not this architecture, or
    // against the rules for shapes of model.md 16.1.
    static CheckpointConfig read(const std::filesystem::path& file);

    std::uint32_t ratio(std::uint32_t layer) const {
        return static_cast<std::uint32_t>(compress_ratios[layer]);
    }
};

// All keys of model.md 1.1. `architecture` tells a trunk from an MTP file (model.md 3.3).
void write_metadata(const CheckpointConfig& config, const std::string& architecture, const std::string& name,
                    gguf::Writer& writer);

// The keys of model.md 15.1 from a tokenizer.json; ids beyond its vocabulary become unused tokens. Throws
// IoError, TokenizerError, ModelError if it has more than vocab_size tokens.
void write_tokenizer(const std::filesystem::path& tokenizer_json, const CheckpointConfig& config,
                     gguf::Writer& writer);
// The same keys; the vocabulary has vocab_size tokens.
void write_vocabulary(const tokenizer::Vocabulary& vocabulary, const CheckpointConfig& config,
                      gguf::Writer& writer);

}  // namespace ds4::convert
