#include "convert/checkpoint_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "convert/checkpoint_copy.h"
#include "ds4/error.h"
#include "gguf/gguf.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/small_vocabulary.h"

namespace ds4::convert {
namespace {

using gguf::ValueType;
using nlohmann::json;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// The keys of model.md 1.1 and their types.
const std::map<std::string, ValueType> kKeys = {
    {"general.architecture", ValueType::string},
    {"general.name", ValueType::string},
    {"deepseek4.block_count", ValueType::u32},
    {"deepseek4.context_length", ValueType::u32},
    {"deepseek4.embedding_length", ValueType::u32},
    {"deepseek4.vocab_size", ValueType::u32},
    {"deepseek4.attention.head_count", ValueType::u32},
    {"deepseek4.attention.head_count_kv", ValueType::u32},
    {"deepseek4.attention.key_length", ValueType::u32},
    {"deepseek4.attention.value_length", ValueType::u32},
    {"deepseek4.rope.dimension_count", ValueType::u32},
    {"deepseek4.attention.q_lora_rank", ValueType::u32},
    {"deepseek4.attention.output_lora_rank", ValueType::u32},
    {"deepseek4.attention.output_group_count", ValueType::u32},
    {"deepseek4.attention.sliding_window", ValueType::u32},
    {"deepseek4.attention.compress_ratios", ValueType::array},
    {"deepseek4.attention.indexer.head_count", ValueType::u32},
    {"deepseek4.attention.indexer.key_length", ValueType::u32},
    {"deepseek4.attention.indexer.top_k", ValueType::u32},
    {"deepseek4.hash_layer_count", ValueType::u32},
    {"deepseek4.expert_count", ValueType::u32},
    {"deepseek4.expert_used_count", ValueType::u32},
    {"deepseek4.expert_shared_count", ValueType::u32},
    {"deepseek4.expert_feed_forward_length", ValueType::u32},
    {"deepseek4.expert_gating_func", ValueType::u32},
    {"deepseek4.expert_weights_norm", ValueType::boolean},
    {"deepseek4.expert_weights_scale", ValueType::f32},
    {"deepseek4.swiglu_clamp_exp", ValueType::array},
    {"deepseek4.hyper_connection.count", ValueType::u32},
    {"deepseek4.hyper_connection.sinkhorn_iterations", ValueType::u32},
    {"deepseek4.hyper_connection.epsilon", ValueType::f32},
    {"deepseek4.attention.layer_norm_rms_epsilon", ValueType::f32},
    {"deepseek4.rope.freq_base", ValueType::f32},
    {"deepseek4.attention.compress_rope_freq_base", ValueType::f32},
    {"deepseek4.rope.scaling.type", ValueType::string},
    {"deepseek4.rope.scaling.factor", ValueType::f32},
    {"deepseek4.rope.scaling.original_context_length", ValueType::u32},
    {"deepseek4.rope.scaling.yarn_beta_fast", ValueType::f32},
    {"deepseek4.rope.scaling.yarn_beta_slow", ValueType::f32},
    {"deepseek4.nextn_predict_layers", ValueType::u32},
};

class CheckpointConfigTest : public testing::Test {
  protected:
    CheckpointConfig read() const {
        test::write_file(file_, config_.dump());
        return CheckpointConfig::read(file_);
    }
    // What follows the file's name in the complaint about one changed field.
    std::string error_with(const json& pointer_and_value) const {
        json changed = config_;
        changed.merge_patch(pointer_and_value);
        test::write_file(file_, changed.dump());
        try {
            CheckpointConfig::read(file_);
        } catch (const ModelError& e) {
            return std::string(e.what()).substr(file_.string().size());
        }
        return "no error";
    }

    test::TemporaryDirectory directory_;
    std::filesystem::path file_ = directory_ / "config.json";
    json config_ = test::CheckpointCopy().config;
};

TEST_F(CheckpointConfigTest, BecomesTheKeysOfTheModel) {
    gguf::Writer writer(directory_ / "a.gguf");
    write_metadata(read(), "deepseek4", "alpha", writer);
    writer.begin();
    writer.commit();
    const auto f = gguf::File::open(directory_ / "a.gguf");
    std::map<std::string, ValueType> keys;
    for (const auto& [key, value] : f.metadata()) keys.emplace(key, value.type);
    EXPECT_EQ(keys, kKeys);
    EXPECT_EQ(f.find("deepseek4.attention.compress_ratios")->item_type, ValueType::i32);
    EXPECT_EQ(f.find("deepseek4.swiglu_clamp_exp")->item_type, ValueType::f32);

    EXPECT_EQ(f.find_string("general.architecture"), "deepseek4");
    EXPECT_EQ(f.find_string("general.name"), "alpha");
    const std::map<std::string, std::uint64_t> integers = {{"block_count", 7},
                                                           {"context_length", 512},
                                                           {"embedding_length", 128},
                                                           {"vocab_size", 320},
                                                           {"attention.head_count", 4},
                                                           {"attention.head_count_kv", 1},
                                                           {"attention.key_length", 80},
                                                           {"attention.value_length", 80},
                                                           {"rope.dimension_count", 16},
                                                           {"attention.q_lora_rank", 64},
                                                           {"attention.output_lora_rank", 32},
                                                           {"attention.output_group_count", 2},
                                                           {"attention.sliding_window", 16},
                                                           {"attention.indexer.head_count", 16},
                                                           {"attention.indexer.key_length", 32},
                                                           {"attention.indexer.top_k", 8},
                                                           {"hash_layer_count", 2},
                                                           {"expert_count", 8},
                                                           {"expert_used_count", 2},
                                                           {"expert_shared_count", 1},
                                                           {"expert_feed_forward_length", 32},
                                                           {"expert_gating_func", 4},
                                                           {"hyper_connection.count", 4},
                                                           {"hyper_connection.sinkhorn_iterations", 20},
                                                           {"rope.scaling.original_context_length", 64},
                                                           {"nextn_predict_layers", 1}};
    for (const auto& [key, value] : integers) EXPECT_EQ(f.find_uint("deepseek4." + key), value) << key;
    const std::map<std::string, float> reals = {{"expert_weights_scale", 1.5f},
                                                {"hyper_connection.epsilon", 1e-6f},
                                                {"attention.layer_norm_rms_epsilon", 1e-6f},
                                                {"rope.freq_base", 10000},
                                                {"attention.compress_rope_freq_base", 160000},
                                                {"rope.scaling.factor", 16},
                                                {"rope.scaling.yarn_beta_fast", 32},
                                                {"rope.scaling.yarn_beta_slow", 1}};
    for (const auto& [key, value] : reals) EXPECT_EQ(f.find_float("deepseek4." + key), value) << key;
    EXPECT_EQ(f.find_bool("deepseek4.expert_weights_norm"), true);
    EXPECT_EQ(f.find_string("deepseek4.rope.scaling.type"), "yarn");
    EXPECT_THAT(*f.find_int_array("deepseek4.attention.compress_ratios"),
                ElementsAre(0, 0, 4, 128, 4, 128, 4, 0));
    EXPECT_THAT(*f.find_float_array("deepseek4.swiglu_clamp_exp"), ElementsAre(2, 2, 2, 2, 2, 2, 2));
}

TEST_F(CheckpointConfigTest, EveryRequiredFieldIsMissedByName) {
    const std::vector<std::string> optional = {
        "architectures",    "model_type",         "num_nextn_predict_layers", "num_key_value_heads",
        "n_shared_experts", "scoring_func",       "norm_topk_prob",           "bos_token_id",
        "eos_token_id",     "tie_word_embeddings"};
    for (const auto& [field, value] : config_.items()) {
        const std::string error = error_with({{field, nullptr}});
        if (std::find(optional.begin(), optional.end(), field) != optional.end()) {
            EXPECT_EQ(error, "no error") << field;
        } else {
            EXPECT_THAT(error, StartsWith(": field " + field + " is ")) << field;
        }
    }
}

TEST_F(CheckpointConfigTest, RefusesWrongValues) {
    EXPECT_EQ(error_with({{"hidden_size", 0}}),
              ": field hidden_size is 0, it must be a whole number from 1 to 2147483648");
    EXPECT_EQ(error_with({{"hidden_size", -1}}),
              ": field hidden_size is -1, it must be a whole number from 1 to 2147483648");
    EXPECT_EQ(error_with({{"hidden_size", 128.5}}),
              ": field hidden_size is 128.5, it must be a whole number from 1 to 2147483648");
    EXPECT_EQ(error_with({{"hidden_size", "128\n"}}),
              ": field hidden_size is \"128\\n\", it must be a whole number from 1 to 2147483648");
    EXPECT_EQ(error_with({{"hidden_size", json::array({1})}}),
              ": field hidden_size is a list or an object, it must be a whole number from 1 to 2147483648");
    EXPECT_EQ(error_with({{"rms_norm_eps", "x"}}), ": field rms_norm_eps is not a number");
    EXPECT_EQ(error_with({{"rope_theta", 1e300}}),
              ": field rope_theta is 1e+300, it must be finite and at least 1.0");
    EXPECT_EQ(error_with({{"norm_topk_prob", 1}}), ": field norm_topk_prob is not true or false");
    EXPECT_EQ(error_with({{"compress_ratios", {0, 4}}}),
              ": field compress_ratios is shorter than num_hidden_layers");
    EXPECT_EQ(error_with({{"compress_ratios", {0, 4, 8, 0, 0, 0, 0}}}),
              ": field compress_ratios holds 8, only 0, 4 and 128 exist");
    EXPECT_EQ(error_with({{"compress_ratios", {0, 4294967300, 0, 0, 0, 0, 0}}}),
              ": field compress_ratios holds 4294967300, only 0, 4 and 128 exist");
    EXPECT_EQ(error_with({{"rope_scaling", {{"factor", 0.5}}}}),
              ": rope_scaling: field factor is 0.5, it must be finite and at least 1.0");
    EXPECT_EQ(error_with({{"eos_token_id", 320}}),
              ": field eos_token_id is 320, it must be a whole number from 0 to 319");
}

TEST_F(CheckpointConfigTest, RefusesOtherArchitectures) {
    EXPECT_EQ(error_with({{"model_type", "deepseek_v3"}}),
              ": field model_type is \"deepseek_v3\", ds4 knows only \"deepseek_v4\"");
    EXPECT_THAT(error_with({{"scoring_func", "sigmoid"}}), StartsWith(": field scoring_func is"));
    EXPECT_THAT(error_with({{"n_shared_experts", 2}}), StartsWith(": field n_shared_experts is 2"));
    EXPECT_THAT(error_with({{"num_key_value_heads", 4}}), StartsWith(": field num_key_value_heads is 4"));
    EXPECT_THAT(error_with({{"tie_word_embeddings", true}}),
                StartsWith(": field tie_word_embeddings is true"));
    EXPECT_THAT(error_with({{"rope_scaling", {{"type", "linear"}}}}),
                StartsWith(": rope_scaling: field type is \"linear\""));
}

TEST_F(CheckpointConfigTest, RefusesContradictions) {
    EXPECT_EQ(error_with({{"num_experts_per_tok", 9}}),
              ": field num_experts_per_tok is more than n_routed_experts");
    EXPECT_EQ(error_with({{"num_hash_layers", 8}}), ": field num_hash_layers is more than num_hidden_layers");
    EXPECT_EQ(error_with({{"o_groups", 3}}), ": field num_attention_heads is not a multiple of o_groups");
    EXPECT_EQ(error_with({{"qk_rope_head_dim", 17}}), ": field qk_rope_head_dim is odd");
    EXPECT_EQ(error_with({{"qk_rope_head_dim", 82}}), ": field qk_rope_head_dim is more than head_dim");
    EXPECT_EQ(error_with({{"head_dim", 96}}),
              ": field head_dim minus qk_rope_head_dim is not a multiple of 64");
    EXPECT_EQ(error_with({{"index_head_dim", 48}}),
              ": field index_head_dim is not a power of two of at least 32");
}

TEST_F(CheckpointConfigTest, RefusesWhatIsNoConfig) {
    for (const std::string text : {"", "[]", "{", "\xff", "7"}) {
        test::write_file(file_, text);
        try {
            CheckpointConfig::read(file_);
            ADD_FAILURE() << text;
        } catch (const ModelError& e) {
            EXPECT_THAT(e.what(), EndsWith("config.json: not a JSON object"));
        }
    }
    const std::string deep(1'000'000, '[');
    test::write_file(file_, std::string("{\"hidden_size\":").append(deep));
    EXPECT_THROW(CheckpointConfig::read(file_), ModelError);
    EXPECT_THROW(CheckpointConfig::read(directory_ / "absent.json"), IoError);
}

// The small vocabulary as a tokenizer.json.
json small_tokenizer() {
    const tokenizer::Vocabulary small = test::small_vocabulary();
    json vocab = json::object(), steps = json::array(), added = json::array();
    for (std::size_t i = 0; i < small.tokens.size(); ++i) {
        const bool is_normal = small.kinds[i] == tokenizer::Vocabulary::Kind::normal;
        if (is_normal) vocab[small.tokens[i]] = i;
        if (!is_normal) added.push_back({{"id", i}, {"content", small.tokens[i]}, {"special", true}});
    }
    for (const std::string_view pattern : tokenizer::split_patterns) {
        steps.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", pattern}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
    }
    steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    return {{"added_tokens", added},
            {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", small.merges}}}};
}

TEST_F(CheckpointConfigTest, TokenizerIsReadBackAndFilledUp) {
    const CheckpointConfig config = read();
    test::write_file(directory_ / "tokenizer.json", small_tokenizer().dump());
    gguf::Writer writer(directory_ / "a.gguf");
    write_tokenizer(directory_ / "tokenizer.json", config, writer);
    writer.begin();
    writer.commit();
    const auto f = gguf::File::open(directory_ / "a.gguf");
    EXPECT_EQ(f.find_string("tokenizer.ggml.model"), "gpt2");
    EXPECT_EQ(f.find_string("tokenizer.ggml.pre"), "joyai-llm");
    EXPECT_EQ(f.find_bool("tokenizer.ggml.add_bos_token"), false);
    EXPECT_EQ(f.find_bool("tokenizer.ggml.add_eos_token"), false);
    EXPECT_EQ(f.find_uint("tokenizer.ggml.bos_token_id"), 0u);
    EXPECT_EQ(f.find_uint("tokenizer.ggml.eos_token_id"), 1u);
    EXPECT_EQ(f.find_uint("tokenizer.ggml.padding_token_id"), 1u);
    const auto vocabulary = tokenizer::Vocabulary::from_gguf(f);
    const auto small = test::small_vocabulary();
    EXPECT_EQ(vocabulary.merges, small.merges);
    ASSERT_EQ(vocabulary.tokens.size(), config.vocab_size);
    EXPECT_TRUE(std::equal(small.tokens.begin(), small.tokens.end(), vocabulary.tokens.begin()));
    EXPECT_EQ(vocabulary.kinds.back(), tokenizer::Vocabulary::Kind::unused);
    const tokenizer::Tokenizer tokenizer(vocabulary);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("hello")), "hello");
}

TEST_F(CheckpointConfigTest, TokenizerLargerThanTheModelIsRefused) {
    config_["vocab_size"] = 100;
    test::write_file(directory_ / "tokenizer.json", small_tokenizer().dump());
    gguf::Writer writer(directory_ / "a.gguf");
    try {
        write_tokenizer(directory_ / "tokenizer.json", read(), writer);
        FAIL();
    } catch (const ModelError& e) {
        EXPECT_THAT(e.what(), EndsWith("tokenizer.json: has 261 tokens, vocab_size in config.json is 100"));
    }
}

}  // namespace
}  // namespace ds4::convert
