#include "model/flash_shape.h"

#include <algorithm>

namespace ds4::test {
namespace {

using quant::Type;

// model.md 1.1
Config flash_config(std::int64_t n_layers) {
    Config c;
    c.n_layers = n_layers;
    c.max_context = 1048576;
    c.hidden = 4096;
    c.vocab = 129280;
    c.n_heads = 64;
    c.head_dim = 512;
    c.rope_dims = 64;
    c.q_rank = 1024;
    c.out_rank = 1024;
    c.out_groups = 8;
    c.window = 128;
    for (std::int64_t l = 0; l < n_layers; ++l) c.ratios.push_back(l < 2 ? 0 : l % 2 == 0 ? 4 : 128);
    c.index_heads = 64;
    c.index_dim = 128;
    c.index_top_k = 512;
    c.n_hash_layers = 3;
    c.n_experts = 256;
    c.n_used_experts = 6;
    c.expert_width = 2048;
    c.route_scale = 1.5F;
    c.clamp.assign(static_cast<std::size_t>(n_layers), 10.0F);
    c.shared_clamp = c.clamp;
    c.n_streams = 4;
    c.sinkhorn_iterations = 20;
    c.hc_eps = 1e-6F;
    c.rms_eps = 1e-6F;
    c.rope_base = 10000;
    c.compress_rope_base = 160000;
    c.yarn_factor = 16;
    c.yarn_beta_fast = 32;
    c.yarn_beta_slow = 1;
    c.yarn_original = 65536;
    return c;
}

}  // namespace

FlashShape::FlashShape(Backend& backend, std::int64_t n_layers)
    : config(flash_config(n_layers)), backend_(backend) {
    weights.embedding = matrix(Type::f16, config.hidden, config.vocab, Backend::MatrixUse::rows);
    weights.output = matrix(Type::q8_0, config.hidden, config.vocab);
    weights.norm = vector(config.hidden);
    weights.hc_head = hyper_connection(config.n_streams, 1);
    for (std::int64_t l = 0; l < n_layers; ++l)
        weights.layers.push_back(layer(config.ratio(l), config.is_hash_layer(l)));
}

template <class T>
const T* FlashShape::nowhere(std::size_t bytes) {
    const std::uintptr_t at = next_;
    next_ += (bytes + 255) / 256 * 256;
    return reinterpret_cast<const T*>(at);
}

Matrix FlashShape::host(Type type, std::int64_t n_in, std::int64_t n_out, std::int64_t stack) {
    Matrix m;
    m.type = type;
    m.n_in = n_in;
    m.n_out = n_out;
    m.stack = stack;
    m.row_bytes = quant::row_bytes(quant::format(type), static_cast<std::size_t>(n_in));
    m.data = nowhere<std::byte>(m.row_bytes * static_cast<std::size_t>(n_out * stack));
    return m;
}

Matrix FlashShape::matrix(Type type, std::int64_t n_in, std::int64_t n_out, Backend::MatrixUse use) {
    return backend_.place(host(type, n_in, n_out), use);
}

Vector FlashShape::vector(std::int64_t n) {
    return {nowhere<float>(static_cast<std::size_t>(n) * sizeof(float)), n};
}

HyperConnection FlashShape::hyper_connection(std::int64_t width, std::int64_t n_scales) {
    HyperConnection hc;
    hc.fn = matrix(Type::f16, config.n_streams * config.hidden, width, Backend::MatrixUse::mixing);
    hc.base = vector(width);
    hc.scale = vector(n_scales);
    hc.n_streams = config.n_streams;
    hc.sinkhorn_iterations = config.sinkhorn_iterations;
    hc.eps = config.hc_eps;
    hc.rms_eps = config.rms_eps;
    return hc;
}

CompressorWeights FlashShape::compressor(std::int64_t ratio, std::int64_t dim) {
    const std::int64_t width = Config::compressor_width(ratio, dim);
    Matrix ape = host(Type::f16, width, ratio);
    zeros_.resize(std::max(zeros_.size(), ape.row_bytes * static_cast<std::size_t>(ratio)));
    ape.data = zeros_.data();
    return {matrix(Type::f16, config.hidden, width), matrix(Type::f16, config.hidden, width),
            backend_.place(ape, Backend::MatrixUse::added), vector(dim)};
}

LayerWeights FlashShape::layer(std::int64_t ratio, bool hash) {
    const Config& c = config;
    LayerWeights w;
    w.ratio = ratio;
    w.hc_attention = hyper_connection(c.hc_mix_width(), 3);
    w.hc_moe = hyper_connection(c.hc_mix_width(), 3);

    AttentionWeights& a = w.attention;
    a.norm = vector(c.hidden);
    a.q_a = matrix(Type::q8_0, c.hidden, c.q_rank);
    a.q_a_norm = vector(c.q_rank);
    a.q_b = matrix(Type::q8_0, c.q_rank, c.n_heads * c.head_dim);
    a.kv = matrix(Type::q8_0, c.hidden, c.head_dim);
    a.kv_norm = vector(c.head_dim);
    a.sinks = vector(c.n_heads);
    a.out_a = backend_.place_grouped(
        host(Type::q8_0, c.n_heads * c.head_dim / c.out_groups, c.out_groups * c.out_rank), c.out_groups);
    a.out_b = matrix(Type::q8_0, c.out_groups * c.out_rank, c.hidden);
    if (ratio != 0) a.compressor = compressor(ratio, c.head_dim);
    if (ratio == 4) {
        a.indexer.q_b = matrix(Type::f16, c.q_rank, c.index_heads * c.index_dim);
        a.indexer.proj = matrix(Type::f16, c.hidden, c.index_heads);
        a.indexer.compressor = compressor(ratio, c.index_dim);
    }

    MoeWeights& m = w.moe;
    m.norm = vector(c.hidden);
    m.router = matrix(Type::f16, c.hidden, c.n_experts);
    if (hash) {
        m.hash = nowhere<std::int32_t>(static_cast<std::size_t>(c.vocab * c.n_used_experts) * sizeof(float));
    } else {
        m.router_bias = vector(c.n_experts);
    }
    const auto experts = [&](Type gate, Type down, std::int64_t stack, float clamp) {
        Experts e;
        e.gate = host(gate, c.hidden, c.expert_width, stack);
        e.up = host(gate, c.hidden, c.expert_width, stack);
        e.down = host(down, c.expert_width, c.hidden, stack);
        e.clamp = clamp;
        return backend_.place_experts(e);
    };
    m.routed = experts(Type::iq2_xxs, Type::q2_k, c.n_experts, c.clamp.front());
    m.shared = experts(Type::q8_0, Type::q8_0, 1, c.shared_clamp.front());
    return w;
}

}  // namespace ds4::test
