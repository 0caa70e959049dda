#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ds4/error.h"
#include "model/metadata.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

class ConfigFile : public testing::Test {
  protected:
    Config read() {
        test::write_metadata_file(dir / "m.gguf", metadata);
        return Config::from_gguf(gguf::File::open(dir / "m.gguf"));
    }

    // The one line that the change of metadata must bring.
    std::string error() {
        try {
            read();
        } catch (const Error& e) {
            const std::string what = e.what();
            EXPECT_THAT(what, HasSubstr("m.gguf: "));
            EXPECT_EQ(what.find('\n'), std::string::npos);
            return what;
        }
        return "no error";
    }

    test::TemporaryDirectory dir;
    test::Metadata metadata = test::small_metadata();
};

TEST_F(ConfigFile, ReadsEveryParameter) {
    const Config c = read();
    EXPECT_EQ(c.n_layers, 3);
    EXPECT_EQ(c.hidden, 64);
    EXPECT_EQ(c.head_dim, 80);
    EXPECT_EQ(c.ratios, (std::vector<std::int64_t>{0, 4, 128}));
    EXPECT_EQ(c.index_top_k, 8);
    EXPECT_TRUE(c.is_hash_layer(0));
    EXPECT_FALSE(c.is_hash_layer(1));
    EXPECT_FLOAT_EQ(c.route_scale, 1.5F);
    EXPECT_EQ(c.clamp, (std::vector<float>{10, 10, 10}));
    EXPECT_EQ(c.shared_clamp, c.clamp);
    EXPECT_FLOAT_EQ(c.compress_rope_base, 160000.0F);
    EXPECT_EQ(c.yarn_original, 64);
}

TEST_F(ConfigFile, TakesAScalarClampAndASharedOne) {
    metadata["deepseek4.swiglu_clamp_exp"] = 7.0F;
    metadata["deepseek4.swiglu_clamp_shexp"] = std::vector<float>{1, 2, 3};
    const Config c = read();
    EXPECT_EQ(c.clamp, (std::vector<float>{7, 7, 7}));
    EXPECT_EQ(c.shared_clamp, (std::vector<float>{1, 2, 3}));
}

TEST_F(ConfigFile, EveryRequiredKeyIsMissedByName) {
    const auto optional = {"deepseek4.attention.head_count_kv", "deepseek4.expert_shared_count",
                           "deepseek4.expert_gating_func", "deepseek4.expert_weights_norm"};
    const test::Metadata complete = metadata;
    for (const auto& [key, value] : complete) {
        metadata = complete;
        metadata.erase(key);
        if (std::find(optional.begin(), optional.end(), key) != optional.end()) {
            EXPECT_NO_THROW(read()) << key;
        } else {
            EXPECT_THAT(error(), HasSubstr(key)) << key;
        }
    }
}

TEST_F(ConfigFile, RefusesOtherArchitectures) {
    metadata["general.architecture"] = std::string("llama");
    EXPECT_THAT(error(), HasSubstr("architecture is 'llama'"));
    metadata["general.architecture"] = std::string("deepseek4_mtp_support");
    EXPECT_THAT(error(), HasSubstr("only an MTP block"));
}

TEST_F(ConfigFile, RefusesAKeyOfTheWrongType) {
    metadata["deepseek4.block_count"] = std::string("three");
    EXPECT_THAT(error(), HasSubstr("deepseek4.block_count must be an unsigned integer, it is string"));
}

struct Contradiction {
    const char* key;
    test::MetadataValue value;
    const char* message;
};

class Contradictions : public ConfigFile, public testing::WithParamInterface<Contradiction> {};

INSTANTIATE_TEST_SUITE_P(
    All, Contradictions,
    testing::Values(
        Contradiction{"expert_used_count", 5U, "expert_used_count 5 is more than expert_count 4"},
        Contradiction{"hash_layer_count", 4U, "hash_layer_count 4 is more than block_count 3"},
        Contradiction{"attention.compress_ratios", std::vector<std::int32_t>{0, 4}, "2 entries for 3 layers"},
        Contradiction{"attention.compress_ratios", std::vector<std::int32_t>{0, 4, 8}, "the ratio 8"},
        Contradiction{"attention.compress_ratios", std::vector<std::int32_t>{0, -4, 4}, "the ratio -4"},
        Contradiction{"attention.value_length", 64U, "keys are values"},
        Contradiction{"attention.head_count", 5U, "not a multiple of attention.output_group_count"},
        Contradiction{"attention.head_count_kv", 2U, "head_count_kv must be 1"},
        Contradiction{"rope.dimension_count", 15U, "is odd"},
        Contradiction{"rope.dimension_count", 96U, "more than attention.key_length"},
        Contradiction{"rope.dimension_count", 32U, "not a multiple of 64"},
        Contradiction{"attention.indexer.key_length", 48U, "power of two"},
        Contradiction{"attention.indexer.key_length", 16U, "at least 32"},
        Contradiction{"expert_gating_func", 1U, "only 4"},
        Contradiction{"expert_group_count", 8U, "expert groups"},
        Contradiction{"expert_shared_count", 2U, "expert_shared_count must be 1"},
        Contradiction{"embedding_length", 0U, "must be 1.."},
        Contradiction{"embedding_length", 0xffffffffU, "must be 1.."},
        Contradiction{"block_count", 100000U, "must be 1..1000"},
        Contradiction{"hyper_connection.count", 0U, "must be 1..16"},
        Contradiction{"swiglu_clamp_exp", std::vector<float>{10}, "1 entries for 3 layers"},
        Contradiction{"swiglu_clamp_exp", std::vector<float>{10, -1, 10}, "negative or infinite"},
        Contradiction{"rope.freq_base", 0.0F, "must be at least 1"}));

TEST_P(Contradictions, AreNamed) {
    metadata[std::string("deepseek4.") + GetParam().key] = GetParam().value;
    EXPECT_THAT(error(), HasSubstr(GetParam().message));
}

}  // namespace
}  // namespace ds4
