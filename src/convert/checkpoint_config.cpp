#include "convert/checkpoint_config.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "ds4/error.h"
#include "gguf/printable.h"
#include "tokenizer/tokenizer.h"

namespace ds4::convert {
namespace {

using Json = nlohmann::json;

// A value for a message. Lists and objects are not spelled out: they may nest without end.
std::string shown(const Json& value) {
    return value.is_structured() ? "a list or an object" : printable(value.dump());
}

constexpr std::uint32_t kMostInteger = std::uint32_t{1} << 31;

// Typed access to one JSON object; complaints name the file and the field.
class Fields {
  public:
    Fields(std::string where, const Json& object) : where_(std::move(where)), object_(object) {}

    std::uint32_t integer(const char* name, std::uint32_t least, std::uint32_t most = kMostInteger) const {
        const Json* value = find(name);
        if (value == nullptr) fail(name, "is missing");
        if (!value->is_number_unsigned() || value->get<std::uint64_t>() < least ||
            value->get<std::uint64_t>() > most) {
            fail(name, "is " + shown(*value) + ", it must be a whole number from " + std::to_string(least) +
                           " to " + std::to_string(most));
        }
        return value->get<std::uint32_t>();
    }
    std::uint32_t integer_or(const char* name, std::uint32_t otherwise, std::uint32_t most) const {
        return find(name) == nullptr ? std::min(otherwise, most) : integer(name, 0, most);
    }

    float real(const char* name, float least) const {
        const Json* value = find(name);
        if (value == nullptr) fail(name, "is missing");
        if (!value->is_number()) fail(name, "is not a number");
        const auto number = value->get<float>();
        if (!std::isfinite(number) || number < least) {
            fail(name, "is " + value->dump() + ", it must be finite and at least " + Json(least).dump());
        }
        return number;
    }

    bool truth_or(const char* name, bool otherwise) const {
        const Json* value = find(name);
        if (value == nullptr) return otherwise;
        if (!value->is_boolean()) fail(name, "is not true or false");
        return value->get<bool>();
    }

    // One of 0, 4 and 128 for each layer; the file may list more (model.md 1.2).
    std::vector<std::int32_t> ratios(const char* name, std::size_t n_layers) const {
        const Json* value = find(name);
        if (value == nullptr || !value->is_array()) fail(name, "is not a list");
        if (value->size() < n_layers) fail(name, "is shorter than num_hidden_layers");
        std::vector<std::int32_t> out;
        for (const Json& item : *value) {
            if (item != 0 && item != 4 && item != 128) {
                fail(name, "holds " + shown(item) + ", only 0, 4 and 128 exist");
            }
            out.push_back(item.get<std::int32_t>());
        }
        return out;
    }

    // A field that has one legal value; absent is fine.
    void expect(const char* name, const Json& legal) const {
        const Json* value = find(name);
        if (value != nullptr && *value != legal) {
            fail(name, "is " + shown(*value) + ", ds4 knows only " + legal.dump());
        }
    }

    Fields object(const char* name) const {
        const Json* value = find(name);
        if (value == nullptr || !value->is_object()) fail(name, "is not an object");
        return {where_ + ": " + name, *value};
    }

    [[noreturn]] void fail(const std::string& name, const std::string& what) const {
        throw ModelError(where_ + ": field " + name + " " + what);
    }

  private:
    const Json* find(const char* name) const {
        const auto found = object_.find(name);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    std::string where_;
    const Json& object_;
};

Json parse(const std::filesystem::path& file) {
    const MappedFile map = MappedFile::open(file);
    const auto* text = reinterpret_cast<const char*>(map.bytes().data());
    Json json = Json::parse(text, text + map.bytes().size(), nullptr, false);
    if (!json.is_object()) throw ModelError(file.string() + ": not a JSON object");
    return json;
}

// Values that are part of the architecture and not parameters of it.
void check_architecture(const Fields& f) {
    f.expect("model_type", "deepseek_v4");
    f.expect("scoring_func", "sqrtsoftplus");
    f.expect("n_shared_experts", 1);
    f.expect("num_key_value_heads", 1);
    f.expect("tie_word_embeddings", false);
    f.expect("attention_bias", false);
    f.expect("mlp_bias", false);
    f.expect("hidden_act", "silu");
    f.expect("topk_method", "noaux_tc");
}

// What model.md 16.1 asks of shapes that are otherwise free.
void check_shapes(const Fields& f, const CheckpointConfig& c) {
    const auto require = [&](bool condition, const char* name, const std::string& what) {
        if (!condition) f.fail(name, what);
    };
    require(c.num_experts_per_tok <= c.n_routed_experts, "num_experts_per_tok",
            "is more than n_routed_experts");
    require(c.num_hash_layers <= c.num_hidden_layers, "num_hash_layers", "is more than num_hidden_layers");
    require(c.num_attention_heads % c.o_groups == 0, "num_attention_heads", "is not a multiple of o_groups");
    require(c.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", "is odd");
    require(c.qk_rope_head_dim <= c.head_dim, "qk_rope_head_dim", "is more than head_dim");
    require((c.head_dim - c.qk_rope_head_dim) % 64 == 0, "head_dim",
            "minus qk_rope_head_dim is not a multiple of 64");
    require(std::has_single_bit(c.index_head_dim) && c.index_head_dim >= 32, "index_head_dim",
            "is not a power of two of at least 32");
    require(c.qk_rope_head_dim <= c.index_head_dim, "qk_rope_head_dim", "is more than index_head_dim");
}

}  // namespace

CheckpointConfig CheckpointConfig::read(const std::filesystem::path& file) {
    constexpr std::uint32_t kMostLayers = 1000;
    constexpr std::uint32_t kMostStreams = 16;
    constexpr std::uint32_t kMostIterations = 1000;
    constexpr std::uint32_t kMostTokens = std::uint32_t{1} << 30;
    const Json json = parse(file);
    const Fields f(file.string(), json);
    check_architecture(f);
    CheckpointConfig c{};
    c.num_hidden_layers = f.integer("num_hidden_layers", 1, kMostLayers);
    c.max_position_embeddings = f.integer("max_position_embeddings", 1);
    c.hidden_size = f.integer("hidden_size", 1);
    c.vocab_size = f.integer("vocab_size", 1, kMostTokens);
    c.num_attention_heads = f.integer("num_attention_heads", 1);
    c.head_dim = f.integer("head_dim", 1);
    c.qk_rope_head_dim = f.integer("qk_rope_head_dim", 2);
    c.q_lora_rank = f.integer("q_lora_rank", 1);
    c.o_lora_rank = f.integer("o_lora_rank", 1);
    c.o_groups = f.integer("o_groups", 1);
    c.sliding_window = f.integer("sliding_window", 1);
    c.compress_ratios = f.ratios("compress_ratios", c.num_hidden_layers);
    c.index_n_heads = f.integer("index_n_heads", 1);
    c.index_head_dim = f.integer("index_head_dim", 1);
    c.index_topk = f.integer("index_topk", 1);
    c.num_hash_layers = f.integer("num_hash_layers", 0);
    c.n_routed_experts = f.integer("n_routed_experts", 1);
    c.num_experts_per_tok = f.integer("num_experts_per_tok", 1);
    c.moe_intermediate_size = f.integer("moe_intermediate_size", 1);
    c.norm_topk_prob = f.truth_or("norm_topk_prob", true);
    c.routed_scaling_factor = f.real("routed_scaling_factor", 0);
    c.swiglu_limit = f.real("swiglu_limit", 0);
    c.hc_mult = f.integer("hc_mult", 1, kMostStreams);
    c.hc_sinkhorn_iters = f.integer("hc_sinkhorn_iters", 1, kMostIterations);
    c.hc_eps = f.real("hc_eps", 0);
    c.rms_norm_eps = f.real("rms_norm_eps", 0);
    c.rope_theta = f.real("rope_theta", 1);
    c.compress_rope_theta = f.real("compress_rope_theta", 1);
    const Fields yarn = f.object("rope_scaling");
    yarn.expect("type", "yarn");
    c.yarn_factor = yarn.real("factor", 1);
    c.yarn_beta_fast = yarn.real("beta_fast", 0);
    c.yarn_beta_slow = yarn.real("beta_slow", 0);
    c.yarn_original_context = yarn.integer("original_max_position_embeddings", 1);
    c.num_nextn_predict_layers = f.integer_or("num_nextn_predict_layers", 0, kMostLayers);
    c.bos_token_id = f.integer_or("bos_token_id", 0, c.vocab_size - 1);
    c.eos_token_id = f.integer_or("eos_token_id", 1, c.vocab_size - 1);
    c.pad_token_id = f.integer_or("pad_token_id", c.eos_token_id, c.vocab_size - 1);
    check_shapes(f, c);
    return c;
}

void write_metadata(const CheckpointConfig& c, const std::string& architecture, const std::string& name,
                    gguf::Writer& writer) {
    const auto key = [](const char* k) { return std::string("deepseek4.") + k; };
    writer.set_string("general.architecture", architecture);
    writer.set_string("general.name", name);
    writer.set_u32(key("block_count"), c.num_hidden_layers);
    writer.set_u32(key("context_length"), c.max_position_embeddings);
    writer.set_u32(key("embedding_length"), c.hidden_size);
    writer.set_u32(key("vocab_size"), c.vocab_size);
    writer.set_u32(key("attention.head_count"), c.num_attention_heads);
    writer.set_u32(key("attention.head_count_kv"), 1);
    writer.set_u32(key("attention.key_length"), c.head_dim);
    writer.set_u32(key("attention.value_length"), c.head_dim);
    writer.set_u32(key("rope.dimension_count"), c.qk_rope_head_dim);
    writer.set_u32(key("attention.q_lora_rank"), c.q_lora_rank);
    writer.set_u32(key("attention.output_lora_rank"), c.o_lora_rank);
    writer.set_u32(key("attention.output_group_count"), c.o_groups);
    writer.set_u32(key("attention.sliding_window"), c.sliding_window);
    writer.set_i32_array(key("attention.compress_ratios"), c.compress_ratios);
    writer.set_u32(key("attention.indexer.head_count"), c.index_n_heads);
    writer.set_u32(key("attention.indexer.key_length"), c.index_head_dim);
    writer.set_u32(key("attention.indexer.top_k"), c.index_topk);
    writer.set_u32(key("hash_layer_count"), c.num_hash_layers);
    writer.set_u32(key("expert_count"), c.n_routed_experts);
    writer.set_u32(key("expert_used_count"), c.num_experts_per_tok);
    writer.set_u32(key("expert_shared_count"), 1);
    writer.set_u32(key("expert_feed_forward_length"), c.moe_intermediate_size);
    writer.set_u32(key("expert_gating_func"), 4);
    writer.set_bool(key("expert_weights_norm"), c.norm_topk_prob);
    writer.set_f32(key("expert_weights_scale"), c.routed_scaling_factor);
    writer.set_f32_array(key("swiglu_clamp_exp"), std::vector<float>(c.num_hidden_layers, c.swiglu_limit));
    writer.set_u32(key("hyper_connection.count"), c.hc_mult);
    writer.set_u32(key("hyper_connection.sinkhorn_iterations"), c.hc_sinkhorn_iters);
    writer.set_f32(key("hyper_connection.epsilon"), c.hc_eps);
    writer.set_f32(key("attention.layer_norm_rms_epsilon"), c.rms_norm_eps);
    writer.set_f32(key("rope.freq_base"), c.rope_theta);
    writer.set_f32(key("attention.compress_rope_freq_base"), c.compress_rope_theta);
    writer.set_string(key("rope.scaling.type"), "yarn");
    writer.set_f32(key("rope.scaling.factor"), c.yarn_factor);
    writer.set_u32(key("rope.scaling.original_context_length"), c.yarn_original_context);
    writer.set_f32(key("rope.scaling.yarn_beta_fast"), c.yarn_beta_fast);
    writer.set_f32(key("rope.scaling.yarn_beta_slow"), c.yarn_beta_slow);
    writer.set_u32(key("nextn_predict_layers"), c.num_nextn_predict_layers);
}

void write_tokenizer(const std::filesystem::path& tokenizer_json, const CheckpointConfig& c,
                     gguf::Writer& writer) {
    auto vocabulary = tokenizer::Vocabulary::from_json(tokenizer_json);
    if (vocabulary.tokens.size() > c.vocab_size) {
        throw ModelError(tokenizer_json.string() + ": has " + std::to_string(vocabulary.tokens.size()) +
                         " tokens, vocab_size in config.json is " + std::to_string(c.vocab_size));
    }
    // Embeddings are sometimes longer than the vocabulary; every id needs an entry all the same.
    while (vocabulary.tokens.size() < c.vocab_size) {
        vocabulary.tokens.push_back("<unused " + std::to_string(vocabulary.tokens.size()) + ">");
        vocabulary.kinds.push_back(tokenizer::Vocabulary::Kind::unused);
    }
    write_vocabulary(vocabulary, c, writer);
}

void write_vocabulary(const tokenizer::Vocabulary& vocabulary, const CheckpointConfig& c,
                      gguf::Writer& writer) {
    std::vector<std::int32_t> kinds;
    for (const auto kind : vocabulary.kinds) kinds.push_back(static_cast<std::int32_t>(kind));
    writer.set_string("tokenizer.ggml.model", "gpt2");
    writer.set_string("tokenizer.ggml.pre", "joyai-llm");
    writer.set_string_array("tokenizer.ggml.tokens", vocabulary.tokens);
    writer.set_i32_array("tokenizer.ggml.token_type", kinds);
    writer.set_string_array("tokenizer.ggml.merges", vocabulary.merges);
    writer.set_u32("tokenizer.ggml.bos_token_id", c.bos_token_id);
    writer.set_u32("tokenizer.ggml.eos_token_id", c.eos_token_id);
    writer.set_u32("tokenizer.ggml.padding_token_id", c.pad_token_id);
    writer.set_bool("tokenizer.ggml.add_bos_token", false);
    writer.set_bool("tokenizer.ggml.add_eos_token", false);
}

}  // namespace ds4::convert
