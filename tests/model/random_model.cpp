#include "model/random_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace ds4::test {
namespace {

Config small_config() {
    Config c;
    c.ratios = {0, 4, 128, 4};
    c.n_layers = 4;
    c.max_context = 4096;
    c.hidden = 64;
    c.vocab = 97;
    c.n_heads = 4;
    c.head_dim = 80;
    c.rope_dims = 16;
    c.q_rank = 32;
    c.out_rank = 16;
    c.out_groups = 2;
    c.window = 16;
    c.index_heads = 4;
    c.index_dim = 32;
    c.index_top_k = 8;
    c.n_hash_layers = 1;
    c.n_experts = 6;
    c.n_used_experts = 2;
    c.expert_width = 32;
    c.route_scale = 1.5F;
    c.clamp.assign(4, 10.0F);
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
    c.yarn_original = 64;
    return c;
}

}  // namespace

RandomModel::RandomModel(std::uint64_t seed, quant::Type type, Backend* backend)
    : config(small_config()), state_(seed), type_(type), backend_(backend) {
    const std::int64_t e = config.hidden;
    weights.embedding = matrix(e, config.vocab, 1, 1, Backend::MatrixUse::rows);
    weights.output = matrix(e, config.vocab, 1 / std::sqrt(static_cast<double>(e)));
    weights.norm = vector(e, 1, 0.1);
    weights.hc_head = hyper_connection(config.n_streams, 1);
    for (std::int64_t l = 0; l < config.n_layers; ++l) {
        weights.layers.push_back(layer(config.ratio(l), config.is_hash_layer(l)));
    }
    const double scale = 1 / std::sqrt(static_cast<double>(e));
    mtp.e_proj = matrix(e, e, scale);
    mtp.h_proj = matrix(e, e, scale);
    mtp.e_norm = vector(e, 1, 0.1);
    mtp.h_norm = vector(e, 1, 0.1);
    mtp.norm = vector(e, 1, 0.1);
    mtp.hc_head = hyper_connection(config.n_streams, 1);
    mtp.layer = layer(0, false);
}

std::vector<TokenId> RandomModel::tokens(std::int64_t n, std::uint64_t seed) const {
    std::vector<TokenId> ids;
    std::uint64_t state = seed;
    for (std::int64_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        ids.push_back(static_cast<TokenId>((state >> 33) % static_cast<std::uint64_t>(config.vocab)));
    }
    return ids;
}

double RandomModel::uniform() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return (static_cast<double>(state_ >> 11) + 0.5) * 0x1p-53;
}

double RandomModel::normal() {
    return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
}

template <class T>
const T* RandomModel::placed(const std::vector<T>& values) {
    if (backend_ == nullptr) return values.data();
    void* memory = memory_.emplace_back(*backend_, values.size() * sizeof(T)).get();
    backend_->upload(memory, values.data(), values.size() * sizeof(T));
    return static_cast<const T*>(memory);
}

Matrix RandomModel::host_matrix(std::int64_t n_in, std::int64_t n_out, double deviation, std::int64_t stack) {
    std::vector<float> values(static_cast<std::size_t>(n_in * n_out * stack));
    for (float& v : values) v = static_cast<float>(deviation * normal());
    const bool whole_blocks = static_cast<std::size_t>(n_in) % quant::format(type_).block_elems == 0;
    const quant::Format& format = quant::format(whole_blocks ? type_ : quant::Type::f32);
    std::vector<std::byte>& bytes = matrices_.emplace_back(quant::row_bytes(format, values.size()));
    format.encode(values.data(), bytes.data(), values.size());
    return {bytes.data(), format.type, n_in,
            n_out,        stack,       quant::row_bytes(format, static_cast<std::size_t>(n_in))};
}

Matrix RandomModel::matrix(std::int64_t n_in, std::int64_t n_out, double deviation, std::int64_t stack,
                           Backend::MatrixUse use) {
    const Matrix host = host_matrix(n_in, n_out, deviation, stack);
    return backend_ == nullptr ? host : backend_->place(host, use);
}

Experts RandomModel::experts(std::int64_t stack, float clamp) {
    const auto one = [&](std::int64_t n_in, std::int64_t n_out) {
        return host_matrix(n_in, n_out, 1 / std::sqrt(static_cast<double>(n_in)), stack);
    };
    Experts host;
    host.gate = one(config.hidden, config.expert_width);
    host.up = one(config.hidden, config.expert_width);
    host.down = one(config.expert_width, config.hidden);
    host.clamp = clamp;
    return backend_ == nullptr ? host : backend_->place_experts(host);
}

Vector RandomModel::vector(std::int64_t n, double mean, double deviation) {
    std::vector<float>& values = vectors_.emplace_back(static_cast<std::size_t>(n));
    for (float& v : values) v = static_cast<float>(mean + deviation * normal());
    return {placed(values), n};
}

HyperConnection RandomModel::hyper_connection(std::int64_t width, std::int64_t n_scales) {
    HyperConnection hc;
    hc.fn = matrix(config.n_streams * config.hidden, width, 0.06, 1, Backend::MatrixUse::mixing);
    hc.base = vector(width, 0, 0.1);
    hc.scale = vector(n_scales, 1, 0);
    hc.n_streams = config.n_streams;
    hc.sinkhorn_iterations = config.sinkhorn_iterations;
    hc.eps = config.hc_eps;
    hc.rms_eps = config.rms_eps;
    return hc;
}

CompressorWeights RandomModel::compressor(std::int64_t ratio, std::int64_t dim) {
    const std::int64_t width = Config::compressor_width(ratio, dim);
    const double scale = 1 / std::sqrt(static_cast<double>(config.hidden));
    return {matrix(config.hidden, width, scale), matrix(config.hidden, width, scale),
            matrix(width, ratio, 0.5, 1, Backend::MatrixUse::added), vector(dim, 1, 0.1)};
}

LayerWeights RandomModel::layer(std::int64_t ratio, bool hash) {
    const Config& c = config;
    const auto scaled = [&](std::int64_t n_in, std::int64_t n_out, std::int64_t stack = 1) {
        return matrix(n_in, n_out, 1 / std::sqrt(static_cast<double>(n_in)), stack);
    };
    LayerWeights w;
    w.ratio = ratio;
    w.hc_attention = hyper_connection(c.hc_mix_width(), 3);
    w.hc_moe = hyper_connection(c.hc_mix_width(), 3);

    AttentionWeights& a = w.attention;
    a.norm = vector(c.hidden, 1, 0.1);
    a.q_a = scaled(c.hidden, c.q_rank);
    a.q_a_norm = vector(c.q_rank, 1, 0.1);
    a.q_b = scaled(c.q_rank, c.n_heads * c.head_dim);
    a.kv = scaled(c.hidden, c.head_dim);
    a.kv_norm = vector(c.head_dim, 1, 0.1);
    a.sinks = vector(c.n_heads, 0, 1);
    const std::int64_t of_group = c.n_heads * c.head_dim / c.out_groups;
    const Matrix out_a =
        host_matrix(of_group, c.out_groups * c.out_rank, 1 / std::sqrt(static_cast<double>(of_group)), 1);
    a.out_a = backend_ == nullptr ? out_a : backend_->place_grouped(out_a, c.out_groups);
    a.out_b = scaled(c.out_groups * c.out_rank, c.hidden);
    if (ratio != 0) a.compressor = compressor(ratio, c.head_dim);
    if (ratio == 4) {
        a.indexer.q_b = scaled(c.q_rank, c.index_heads * c.index_dim);
        a.indexer.proj = scaled(c.hidden, c.index_heads);
        a.indexer.compressor = compressor(ratio, c.index_dim);
    }

    MoeWeights& m = w.moe;
    m.norm = vector(c.hidden, 1, 0.1);
    m.router = scaled(c.hidden, c.n_experts);
    if (hash) {
        std::vector<std::int32_t>& table = tables_.emplace_back();
        for (std::int64_t t = 0; t < c.vocab; ++t) {
            for (std::int64_t k = 0; k < c.n_used_experts; ++k) {
                table.push_back(static_cast<std::int32_t>((t * 7 + k * (1 + t % 5)) % c.n_experts));
            }
        }
        m.hash = placed(table);
    } else {
        m.router_bias = vector(c.n_experts, 0, 0.1);
    }
    m.routed = experts(c.n_experts, c.clamp.front());
    m.shared = experts(1, c.shared_clamp.front());
    return w;
}

}  // namespace ds4::test
