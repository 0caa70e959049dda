#include "synth/flash.h"

#include <algorithm>

namespace ds4::synth {
namespace {

std::int32_t ratio_of(std::uint32_t layer) {
    if (layer < 2) return 0;
    return layer % 2 == 0 ? 4 : 128;
}

}  // namespace

convert::CheckpointConfig flash_config(std::uint32_t n_layers) {
    convert::CheckpointConfig c{};
    c.num_hidden_layers = n_layers;
    c.max_position_embeddings = 1048576;
    c.hidden_size = 4096;
    c.vocab_size = 129280;
    c.num_attention_heads = 64;
    c.head_dim = 512;
    c.qk_rope_head_dim = 64;
    c.q_lora_rank = 1024;
    c.o_lora_rank = 1024;
    c.o_groups = 8;
    c.sliding_window = 128;
    for (std::uint32_t l = 0; l < n_layers; ++l) c.compress_ratios.push_back(ratio_of(l));
    c.index_n_heads = 64;
    c.index_head_dim = 128;
    c.index_topk = 512;
    c.num_hash_layers = std::min<std::uint32_t>(3, n_layers);
    c.n_routed_experts = 256;
    c.num_experts_per_tok = 6;
    c.moe_intermediate_size = 2048;
    c.norm_topk_prob = true;
    c.routed_scaling_factor = 1.5F;
    c.swiglu_limit = 10;
    c.hc_mult = 4;
    c.hc_sinkhorn_iters = 20;
    c.hc_eps = 1e-6F;
    c.rms_norm_eps = 1e-6F;
    c.rope_theta = 10000;
    c.compress_rope_theta = 160000;
    c.yarn_factor = 16;
    c.yarn_beta_fast = 32;
    c.yarn_beta_slow = 1;
    c.yarn_original_context = 65536;
    c.num_nextn_predict_layers = 0;
    c.bos_token_id = 0;
    c.eos_token_id = 1;
    c.pad_token_id = 1;
    return c;
}

}  // namespace ds4::synth
