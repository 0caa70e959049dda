#include "synth/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "apps/run_program.h"
#include "ds4/engine.h"
#include "gguf/gguf.h"
#include "synth/small_model.h"
#include "temporary_directory.h"

namespace ds4::synth {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

SynthOptions flash(Recipe recipe, std::uint32_t n_layers = 43) {
    SynthOptions o;
    o.config = flash_config(n_layers);
    o.recipe = recipe;
    return o;
}

std::uint64_t bytes_of(const PlannedTensor& t) {
    const auto rows = std::accumulate(t.ne.begin() + 1, t.ne.end(), std::uint64_t{1}, std::multiplies<>());
    return rows * quant::row_bytes(quant::format(t.type), t.ne[0]);
}

std::uint64_t bytes_of(const std::vector<PlannedTensor>& tensors) {
    std::uint64_t sum = 0;
    for (const PlannedTensor& t : tensors) sum += bytes_of(t);
    return sum;
}

std::map<std::string, PlannedTensor> by_name(const std::vector<PlannedTensor>& tensors) {
    std::map<std::string, PlannedTensor> out;
    for (const PlannedTensor& t : tensors) out[t.name] = t;
    return out;
}

// model.md 3.1, 3.2
TEST(SynthPlan, HasTheTensorsOfThePublishedFiles) {
    const auto q2 = plan(flash(Recipe::q2));
    EXPECT_EQ(q2.size(), 1328);
    EXPECT_EQ(bytes_of(q2), 86'714'775'900);
    EXPECT_EQ(bytes_of(plan(flash(Recipe::q4))), 164'628'167'004);
}

TEST(SynthPlan, SharesBytesByPeriod) {
    SynthOptions o = flash(Recipe::q2);
    o.expert_period = 2;
    o.dense_period = 4;
    const auto tensors = by_name(plan(o));
    EXPECT_EQ(tensors.at("blk.1.ffn_up_exps.weight").alias_of, "");
    EXPECT_EQ(tensors.at("blk.42.ffn_up_exps.weight").alias_of, "blk.0.ffn_up_exps.weight");
    EXPECT_EQ(tensors.at("blk.3.attn_q_b.weight").alias_of, "");
    EXPECT_EQ(tensors.at("blk.39.attn_q_b.weight").alias_of, "blk.3.attn_q_b.weight");
    EXPECT_EQ(tensors.at("blk.42.exp_probs_b.bias").alias_of, "blk.6.exp_probs_b.bias");
}

TEST(SynthPlan, SharesBytesOfEqualShapesOnly) {
    SynthOptions o = flash(Recipe::q2);
    o.expert_period = o.dense_period = 1;
    const auto tensors = by_name(plan(o));
    EXPECT_EQ(tensors.at("blk.4.attn_compressor_ape.weight").alias_of, "blk.2.attn_compressor_ape.weight");
    EXPECT_EQ(tensors.at("blk.5.attn_compressor_ape.weight").alias_of, "blk.3.attn_compressor_ape.weight");
    EXPECT_EQ(tensors.at("output_norm.weight").alias_of, "");
}

TEST(SynthPlan, TwoAndFourMakeAFileOfSixGigabytes) {
    SynthOptions o = flash(Recipe::q2);
    o.expert_period = 2;
    o.dense_period = 4;
    std::uint64_t sum = 0;
    for (const PlannedTensor& t : plan(o)) sum += t.alias_of.empty() ? bytes_of(t) : 0;
    EXPECT_NEAR(static_cast<double>(sum), 5.9e9, 0.1e9);
}

class SynthFile : public testing::Test {
  protected:
    SynthOptions options(const std::string& name = "a.gguf") const {
        return test::small_model(directory_ / name);
    }

    test::TemporaryDirectory directory_;
};

TEST_F(SynthFile, DependsOnTheSeedAndNotOnThreads) {
    write_model(options());
    const std::string bytes = test::read_file(directory_ / "a.gguf");
    SynthOptions three = options("b.gguf");
    three.threads = 3;
    write_model(three);
    EXPECT_TRUE(bytes == test::read_file(directory_ / "b.gguf"));
    SynthOptions other = options("c.gguf");
    other.seed = 2;
    write_model(other);
    EXPECT_FALSE(bytes == test::read_file(directory_ / "c.gguf"));
}

TEST_F(SynthFile, RepeatsNoSlab) {
    write_model(options());
    const gguf::File file = gguf::File::open(directory_ / "a.gguf");
    const auto rows = file.find_tensor("token_embd.weight")->data;
    // The table is longer than what one stream of random numbers fills.
    constexpr std::size_t kSlab = 4096 * 2;
    ASSERT_GT(rows.size(), 2 * kSlab);
    EXPECT_FALSE(std::ranges::equal(rows.first(kSlab), rows.subspan(kSlab, kSlab)));
    EXPECT_FALSE(std::ranges::equal(file.find_tensor("blk.0.attn_kv.weight")->data,
                                    file.find_tensor("blk.1.attn_kv.weight")->data));
}

TEST_F(SynthFile, NamesAFileThatCannotBe) {
    try {
        write_model(test::small_model("/nowhere/x.gguf"));
        ADD_FAILURE();
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), StartsWith("/nowhere/x.gguf: cannot create: "));
    }
}

TEST_F(SynthFile, HashTablesNameDistinctExperts) {
    write_model(options());
    const gguf::File file = gguf::File::open(directory_ / "a.gguf");
    const gguf::Tensor& t = *file.find_tensor("blk.0.ffn_gate_tid2eid.weight");
    const auto* table = reinterpret_cast<const std::int32_t*>(t.data.data());
    for (std::uint64_t row = 0; row < t.rows(); ++row) {
        EXPECT_NE(table[2 * row], table[2 * row + 1]) << row;
        EXPECT_TRUE(table[2 * row] >= 0 && table[2 * row] < 4) << row;
    }
}

std::vector<float> logits_of(const std::filesystem::path& model) {
    EngineOptions o;
    o.model = model;
    o.threads = 1;
    o.max_batch = 64;
    const auto engine = Engine::open(o);
    const auto session = engine->new_session();
    std::vector<TokenId> tokens(40);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * 37 % 1500);
    session->append(tokens);
    return {session->logits().begin(), session->logits().end()};
}

class EveryRecipe : public SynthFile, public testing::WithParamInterface<Recipe> {};

TEST_P(EveryRecipe, RunsWithLogitsOfAFewUnits) {
    SynthOptions o = options();
    o.recipe = GetParam();
    write_model(o);
    const std::vector<float> logits = logits_of(o.out);
    double squares = 0;
    for (const float v : logits) squares += static_cast<double>(v) * static_cast<double>(v);
    const double spread = std::sqrt(squares / static_cast<double>(logits.size()));
    EXPECT_GT(spread, 0.7);  // NaN fails
    EXPECT_LT(spread, 1.5);
}

INSTANTIATE_TEST_SUITE_P(Synth, EveryRecipe, testing::Values(Recipe::q2, Recipe::q4, Recipe::bf16));

TEST_F(SynthFile, SharedBytesRunLikeCopiesOfThem) {
    SynthOptions o = options();
    o.expert_period = 2;
    o.dense_period = 4;
    const SynthResult result = write_model(o);
    EXPECT_LT(result.file_bytes, result.tensor_bytes * 3 / 4);
    const gguf::File file = gguf::File::open(o.out);
    EXPECT_EQ(file.data_bytes(), result.file_bytes);
    EXPECT_EQ(file.find_tensor("blk.0.ffn_up_exps.weight")->offset,
              file.find_tensor("blk.6.ffn_up_exps.weight")->offset);

    gguf::Writer copies(directory_ / "copies.gguf");
    convert::write_metadata(o.config, "deepseek4", o.name, copies);
    for (const gguf::Tensor& t : file.tensors())
        copies.add_tensor(t.name, t.format->type, std::span(t.ne).first(static_cast<std::size_t>(t.n_dims)));
    copies.begin();
    for (const gguf::Tensor& t : file.tensors()) copies.write(t.data);
    copies.commit();
    EXPECT_EQ(logits_of(o.out), logits_of(directory_ / "copies.gguf"));
}

TEST_F(SynthFile, CountsSharedBytesOnceInTheMemoryPlan) {
    SynthOptions o = options();
    o.expert_period = o.dense_period = 1;
    const SynthResult result = write_model(o);
    EngineOptions engine;
    engine.model = o.out;
    engine.threads = 1;
    EXPECT_EQ(Engine::open(engine)->memory_plan(100).weights, static_cast<double>(result.file_bytes));
}

TEST(SynthProgram, WrongUseIsNotZero) {
    using Arguments = std::vector<std::string>;
    for (const Arguments& arguments : {Arguments{},
                                       {"-o", "/nowhere/x", "--recipe", "q3"},
                                       {"-o", "/nowhere/x", "--layers", "44"},
                                       {"-o", "/nowhere/x", "--layers", "0"},
                                       {"-o", "/nowhere/x", "--alias", "2"},
                                       {"-o", "/nowhere/x", "--alias", "0,4"},
                                       {"-o", "/nowhere/x", "--alias", "2,4,8"},
                                       {"-o", "/nowhere/x", "--seed", "-1"},
                                       {"-o", "/nowhere/x", "more"}}) {
        const auto result = test::run_program("ds4-synth", arguments);
        EXPECT_EQ(result.status, 2) << result.err;
        EXPECT_THAT(result.err, StartsWith("ds4-synth: "));
    }
}

TEST(SynthProgram, SaysBeforehandThatTheDiskIsTooSmall) {
    const auto result = test::run_program("ds4-synth", {"-o", "/proc/x.gguf"});
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err,
                StartsWith("ds4-synth: /proc/x.gguf: the file takes 86.7 GB, the disk has 0.0 GB left"));
}

// A disk that is full, as the limit on the size of files looks to a program.
TEST(SynthProgram, LeavesNothingBehindOnAFullDisk) {
    const test::TemporaryDirectory directory;
    test::ProgramOptions options;
    options.file_size_limit = 20'000'000;
    const auto result =
        test::run_program("ds4-synth", {"-o", directory / "x.gguf", "--layers", "1"}, options);
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr("x.gguf: cannot write: "));
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace ds4::synth
