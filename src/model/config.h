#pragma once

#include <cstdint>
#include <vector>

#include "gguf/gguf.h"

namespace ds4 {

// Hyper-parameters of a DeepSeek V4 model, as its file states them (model.md 1.1). Comments give Flash's
// values. Nothing here is compiled in: the bundled model and the test models have other shapes.
struct Config {
    std::int64_t n_layers = 0;         // 43
    std::int64_t max_context = 0;      // 1048576 tokens
    std::int64_t hidden = 0;           // E = 4096
    std::int64_t vocab = 0;            // V = 129280
    std::int64_t n_heads = 0;          // H = 64
    std::int64_t head_dim = 0;         // D = 512
    std::int64_t rope_dims = 0;        // R = 64
    std::int64_t q_rank = 0;           // Q = 1024
    std::int64_t out_rank = 0;         // O = 1024
    std::int64_t out_groups = 0;       // G = 8
    std::int64_t window = 0;           // W = 128
    std::vector<std::int64_t> ratios;  // (n_layers) 0, 4 or 128

    std::int64_t index_heads = 0;  // IH = 64
    std::int64_t index_dim = 0;    // ID = 128
    std::int64_t index_top_k = 0;  // TK = 512

    std::int64_t n_hash_layers = 0;   // 3
    std::int64_t n_experts = 0;       // X = 256
    std::int64_t n_used_experts = 0;  // K = 6
    std::int64_t expert_width = 0;    // F = 2048
    bool normalise_weights = true;
    float route_scale = 0;            // 1.5
    std::vector<float> clamp;         // (n_layers) swiglu_limit of the routed experts, 10
    std::vector<float> shared_clamp;  // (n_layers) of the shared expert

    std::int64_t n_streams = 0;   // M = 4
    int sinkhorn_iterations = 0;  // 20
    float hc_eps = 0;             // 1e-6
    float rms_eps = 0;            // 1e-6

    float rope_base = 0;             // 10000, layers of ratio 0
    float compress_rope_base = 0;    // 160000, the others
    float yarn_factor = 0;           // 16
    float yarn_beta_fast = 0;        // 32
    float yarn_beta_slow = 0;        // 1
    std::int64_t yarn_original = 0;  // 65536 tokens

    // Reads and checks the metadata of a trunk file. Throws ModelError (not this architecture, a key is
    // missing, values that contradict each other or model.md 16.1), GgufError (a key of the wrong type).
    static Config from_gguf(const gguf::File& file);

    std::int64_t ratio(std::int64_t layer) const { return ratios[static_cast<std::size_t>(layer)]; }
    bool is_hash_layer(std::int64_t layer) const { return layer < n_hash_layers; }
    // Width of a compressor's projections: both halves of overlapping windows, model.md 7.
    static std::int64_t compressor_width(std::int64_t ratio, std::int64_t dim) {
        return ratio == 4 ? 2 * dim : dim;
    }
    // Slots of a compressor's frontier, model.md 7.1.
    static std::int64_t frontier_slots(std::int64_t ratio) { return ratio == 4 ? 8 : ratio; }
    std::int64_t hc_mix_width() const { return n_streams * (2 + n_streams); }
};

// Frequencies (rope_dims / 2) of one layer kind, computed in double and rounded once (model.md 5, D1).
std::vector<float> rope_frequencies(const Config& config, bool compressed);

}  // namespace ds4
