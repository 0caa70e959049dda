#pragma once

#include <filesystem>

#include "synth/flash.h"
#include "synth/synth.h"
#include "synth/vocabulary.h"

namespace ds4::test {

// Options for a model of the first eight layers' kinds in a few megabytes, which every recipe can store.
inline synth::SynthOptions small_model(const std::filesystem::path& out) {
    synth::SynthOptions o;
    o.config = synth::flash_config(8);
    o.config.max_position_embeddings = 4096;
    o.config.hidden_size = 256;
    o.config.vocab_size = synth::kLeastVocabulary + 100;
    o.config.num_attention_heads = 4;
    o.config.head_dim = 128;
    o.config.q_lora_rank = 64;
    o.config.o_lora_rank = 32;
    o.config.o_groups = 2;
    o.config.sliding_window = 16;
    o.config.index_n_heads = 2;
    o.config.index_topk = 8;
    o.config.n_routed_experts = 4;
    o.config.num_experts_per_tok = 2;
    o.config.moe_intermediate_size = 256;
    o.name = "small";
    o.out = out;
    o.threads = 2;
    return o;
}

}  // namespace ds4::test
