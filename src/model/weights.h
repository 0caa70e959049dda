#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "gguf/gguf.h"
#include "model/config.h"

// The parameters of the model as typed views (model.md 3.1). Matrices stay in the mapped file in their stored
// format wherever the backend can use them there; vectors are decoded to f32 once.
// Shapes: E hidden, V vocab, H heads, D head dim, Q q rank, G groups, O out rank, M streams, X experts, F
// expert width, IH/ID indexer heads/dim, c = 2 for ratio 4 and 1 for ratio 128, r the ratio.
namespace ds4 {

struct CompressorWeights {
    Matrix value;  // (c * dim, E)
    Matrix gate;   // (c * dim, E)
    Matrix ape;    // (r, c * dim)
    Vector norm;   // (dim)
};

struct IndexerWeights {
    Matrix q_b;                    // (IH * ID, Q)
    Matrix proj;                   // (IH, E)
    CompressorWeights compressor;  // dim = ID
};

struct AttentionWeights {
    Vector norm;                   // (E)
    Matrix q_a;                    // (Q, E)
    Vector q_a_norm;               // (Q)
    Matrix q_b;                    // (H * D, Q)
    Matrix kv;                     // (D, E)
    Vector kv_norm;                // (D)
    Vector sinks;                  // (H)
    Matrix out_a;                  // (G * O, H * D / G), block-diagonal over G
    Matrix out_b;                  // (E, G * O)
    CompressorWeights compressor;  // dim = D; ratio != 0
    IndexerWeights indexer;        // ratio 4
};

struct MoeWeights {
    Vector norm;                         // (E)
    Matrix router;                       // (X, E)
    Vector router_bias;                  // (X); absent in hash layers
    const std::int32_t* hash = nullptr;  // (V, K); hash layers only
    Experts routed;                      // X stacked
    Experts shared;
};

struct LayerWeights {
    std::int64_t ratio = 0;
    HyperConnection hc_attention;  // fn (M * (2 + M), M * E)
    HyperConnection hc_moe;
    AttentionWeights attention;
    MoeWeights moe;
};

// The trunk.
struct Weights {
    Matrix embedding;  // (V, E)
    std::vector<LayerWeights> layers;
    HyperConnection hc_head;  // fn (M, M * E)
    Vector norm;              // (E)
    Matrix output;            // (V, E)
};

// The MTP block of its own file (model.md 3.3, 12).
struct MtpWeights {
    Matrix e_proj, h_proj;  // (E, E)
    Vector e_norm, h_norm;  // (E)
    LayerWeights layer;     // ratio 0, top-k router
    HyperConnection hc_head;
    Vector norm;  // (E)
};

// Decoded vectors and hash tables live here; matrices are where the backend placed them, which may be the
// file, so that must outlive it. Tensors that share their bytes are placed once.
class WeightStore {
  public:
    WeightStore(const gguf::File& file, Backend& backend) : file_(file), backend_(backend) {}
    WeightStore(const WeightStore&) = delete;
    WeightStore& operator=(const WeightStore&) = delete;

    // Every shape is checked against the config. Both throw ModelError naming the file and the tensor.
    Weights load_trunk(const Config& config);
    MtpWeights load_mtp(const Config& config);

  private:
    friend class WeightLoader;

    const gguf::File& file_;
    Backend& backend_;
    std::vector<BackendMemory> vectors_;
    std::map<std::pair<const std::byte*, Backend::MatrixUse>, Matrix> placed_;
    std::map<std::array<const std::byte*, 3>, Experts> placed_experts_;  // by gate, up, down
};

}  // namespace ds4
