#include "model/config.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "ds4/error.h"

namespace ds4 {
namespace {

// Larger than any dimension of a real model, small enough that products of three fit in 64 bits.
constexpr std::uint64_t kMaxDimension = std::uint64_t{1} << 20;

class Reader {
  public:
    explicit Reader(const gguf::File& file) : file_(file) {}

    [[noreturn]] void fail(const std::string& what) const {
        throw ModelError(file_.path().string() + ": " + what);
    }
    void require(bool condition, const std::string& what) const {
        if (!condition) fail(what);
    }

    std::int64_t integer(const char* key, std::uint64_t least, std::uint64_t most = kMaxDimension) const {
        const auto value = file_.find_uint(name(key));
        if (!value) fail("key " + name(key) + " is missing");
        if (*value < least || *value > most) {
            fail("key " + name(key) + " is " + std::to_string(*value) + ", must be " + std::to_string(least) +
                 ".." + std::to_string(most));
        }
        return static_cast<std::int64_t>(*value);
    }

    float real(const char* key, double least) const {
        const auto value = file_.find_float(name(key));
        if (!value) fail("key " + name(key) + " is missing");
        if (!(*value >= least) || *value > static_cast<double>(std::numeric_limits<float>::max())) {
            fail("key " + name(key) + " is " + std::to_string(*value) + ", must be at least " +
                 std::to_string(least));
        }
        return static_cast<float>(*value);
    }

    std::vector<std::int64_t> ratios(std::int64_t n_layers) const {
        const std::string key = name("attention.compress_ratios");
        const auto values = file_.find_int_array(key);
        if (!values) fail("key " + key + " is missing");
        require(static_cast<std::int64_t>(values->size()) >= n_layers,
                "key " + key + " has " + std::to_string(values->size()) + " entries for " +
                    std::to_string(n_layers) + " layers");
        std::vector<std::int64_t> out(values->begin(), values->begin() + n_layers);
        for (const std::int64_t r : out) {
            require(r == 0 || r == 4 || r == 128,
                    "key " + key + " has the ratio " + std::to_string(r) + "; only 0, 4 and 128 exist");
        }
        return out;
    }

    // A limit per layer; a scalar stands for all (llama.cpp writes either). nullopt if absent.
    std::optional<std::vector<float>> clamps(const char* short_key, std::int64_t n_layers) const {
        const std::string key = name(short_key);
        const gguf::Value* value = file_.find(key);
        if (value == nullptr) return std::nullopt;
        std::vector<double> limits;
        if (value->type == gguf::ValueType::array) {
            limits = *file_.find_float_array(key);
            require(static_cast<std::int64_t>(limits.size()) >= n_layers,
                    "key " + key + " has " + std::to_string(limits.size()) + " entries for " +
                        std::to_string(n_layers) + " layers");
        } else {
            limits.assign(static_cast<std::size_t>(n_layers), *file_.find_float(key));
        }
        std::vector<float> out;
        for (std::int64_t l = 0; l < n_layers; ++l) {
            require(limits[l] >= 0 && std::isfinite(limits[l]),
                    "key " + key + " has a negative or infinite limit");
            out.push_back(static_cast<float>(limits[l]));
        }
        return out;
    }

    const gguf::File& file() const { return file_; }

  private:
    static std::string name(const char* key) { return std::string("deepseek4.") + key; }

    const gguf::File& file_;
};

void check_architecture(const Reader& reader) {
    const auto architecture = reader.file().find_string("general.architecture");
    if (!architecture) reader.fail("key general.architecture is missing; this is not a model file");
    if (*architecture == "deepseek4_mtp_support") {
        reader.fail("holds only an MTP block; give the trunk with -m and this file as the MTP model");
    }
    reader.require(*architecture == "deepseek4", "architecture is '" + std::string(*architecture) +
                                                     "', ds4 runs only 'deepseek4' (DeepSeek V4 Flash)");
}

void check_routing(const Reader& reader) {
    if (const auto gating = reader.file().find_uint("deepseek4.expert_gating_func")) {
        reader.require(*gating == 4, "key deepseek4.expert_gating_func is " + std::to_string(*gating) +
                                         ", only 4 (sqrtsoftplus) is known");
    }
    if (const auto groups = reader.file().find_uint("deepseek4.expert_group_count")) {
        reader.require(*groups <= 1,
                       "key deepseek4.expert_group_count: expert groups are not part of this model");
    }
    if (const auto shared = reader.file().find_uint("deepseek4.expert_shared_count")) {
        reader.require(*shared == 1, "key deepseek4.expert_shared_count must be 1");
    }
    if (const auto kv = reader.file().find_uint("deepseek4.attention.head_count_kv")) {
        reader.require(*kv == 1, "key deepseek4.attention.head_count_kv must be 1");
    }
}

// What model.md 16.1 asks of shapes that are otherwise free.
void check_shapes(const Reader& r, const Config& c) {
    const auto text = [](std::int64_t n) { return std::to_string(n); };
    r.require(c.n_used_experts <= c.n_experts, "expert_used_count " + text(c.n_used_experts) +
                                                   " is more than expert_count " + text(c.n_experts));
    r.require(c.n_hash_layers <= c.n_layers,
              "hash_layer_count " + text(c.n_hash_layers) + " is more than block_count " + text(c.n_layers));
    r.require(c.rope_dims % 2 == 0, "rope.dimension_count " + text(c.rope_dims) + " is odd");
    r.require(c.rope_dims <= c.head_dim, "rope.dimension_count " + text(c.rope_dims) +
                                             " is more than attention.key_length " + text(c.head_dim));
    r.require((c.head_dim - c.rope_dims) % 64 == 0,
              "attention.key_length - rope.dimension_count = " + text(c.head_dim - c.rope_dims) +
                  " is not a multiple of 64");
    r.require(c.n_heads % c.out_groups == 0, "attention.head_count " + text(c.n_heads) +
                                                 " is not a multiple of attention.output_group_count " +
                                                 text(c.out_groups));
    const bool has_indexer = std::find(c.ratios.begin(), c.ratios.end(), 4) != c.ratios.end();
    if (!has_indexer) return;
    r.require(std::has_single_bit(static_cast<std::uint64_t>(c.index_dim)) && c.index_dim >= 32,
              "attention.indexer.key_length " + text(c.index_dim) + " is not a power of two of at least 32");
    r.require(c.rope_dims <= c.index_dim, "rope.dimension_count " + text(c.rope_dims) +
                                              " is more than attention.indexer.key_length " +
                                              text(c.index_dim));
}

}  // namespace

Config Config::from_gguf(const gguf::File& file) {
    const Reader r(file);
    check_architecture(r);
    check_routing(r);
    Config c;
    c.n_layers = r.integer("block_count", 1, 1000);
    c.max_context = r.integer("context_length", 1, std::uint64_t{1} << 31);
    c.hidden = r.integer("embedding_length", 1);
    c.vocab = r.integer("vocab_size", 1, std::uint64_t{1} << 30);
    c.n_heads = r.integer("attention.head_count", 1);
    c.head_dim = r.integer("attention.key_length", 1);
    r.require(r.integer("attention.value_length", 1) == c.head_dim,
              "attention.value_length differs from attention.key_length; keys are values in this model");
    c.rope_dims = r.integer("rope.dimension_count", 2);
    c.q_rank = r.integer("attention.q_lora_rank", 1);
    c.out_rank = r.integer("attention.output_lora_rank", 1);
    c.out_groups = r.integer("attention.output_group_count", 1);
    c.window = r.integer("attention.sliding_window", 1);
    c.ratios = r.ratios(c.n_layers);
    c.index_heads = r.integer("attention.indexer.head_count", 1);
    c.index_dim = r.integer("attention.indexer.key_length", 1);
    c.index_top_k = r.integer("attention.indexer.top_k", 1);
    c.n_hash_layers = r.integer("hash_layer_count", 0);
    c.n_experts = r.integer("expert_count", 1);
    c.n_used_experts = r.integer("expert_used_count", 1);
    c.expert_width = r.integer("expert_feed_forward_length", 1);
    c.normalise_weights = file.find_bool("deepseek4.expert_weights_norm").value_or(true);
    c.route_scale = r.real("expert_weights_scale", 0);
    const auto routed = r.clamps("swiglu_clamp_exp", c.n_layers);
    if (!routed) r.fail("key deepseek4.swiglu_clamp_exp is missing");
    c.clamp = *routed;
    c.shared_clamp = r.clamps("swiglu_clamp_shexp", c.n_layers).value_or(c.clamp);
    c.n_streams = r.integer("hyper_connection.count", 1, 16);
    c.sinkhorn_iterations = static_cast<int>(r.integer("hyper_connection.sinkhorn_iterations", 1, 1000));
    c.hc_eps = r.real("hyper_connection.epsilon", 0);
    c.rms_eps = r.real("attention.layer_norm_rms_epsilon", 0);
    c.rope_base = r.real("rope.freq_base", 1);
    c.compress_rope_base = r.real("attention.compress_rope_freq_base", 1);
    c.yarn_factor = r.real("rope.scaling.factor", 1);
    c.yarn_original = r.integer("rope.scaling.original_context_length", 1, std::uint64_t{1} << 31);
    c.yarn_beta_fast = r.real("rope.scaling.yarn_beta_fast", 0);
    c.yarn_beta_slow = r.real("rope.scaling.yarn_beta_slow", 0);
    check_shapes(r, c);
    return c;
}

std::vector<float> rope_frequencies(const Config& c, bool compressed) {
    const auto dims = static_cast<double>(c.rope_dims);
    const auto base = static_cast<double>(compressed ? c.compress_rope_base : c.rope_base);
    // The pair at which a rotation makes `beta` turns over the original context.
    const auto pair_of = [&](float beta) {
        return dims *
               std::log(static_cast<double>(c.yarn_original) /
                        (static_cast<double>(beta) * 2 * std::numbers::pi)) /
               (2 * std::log(base));
    };
    const double low = std::max(0.0, std::floor(pair_of(c.yarn_beta_fast)));
    const double high = std::min(dims - 1, std::ceil(pair_of(c.yarn_beta_slow)));
    const double span = high == low ? 0.001 : high - low;
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < c.rope_dims / 2; ++i) {
        double f = std::pow(base, -2.0 * static_cast<double>(i) / dims);
        if (compressed) {
            const double ramp = std::clamp((static_cast<double>(i) - low) / span, 0.0, 1.0);
            f *= (1 - ramp) + ramp / static_cast<double>(c.yarn_factor);
        }
        frequencies.push_back(static_cast<float>(f));
    }
    return frequencies;
}

}  // namespace ds4
