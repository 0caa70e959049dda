#include "model/step_cost.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "synth/flash.h"
#include "synth/synth.h"

namespace ds4 {
namespace {

// The tensors of a full-size q2 file, without their data.
struct FlashTensors {
    FlashTensors() {
        synth::SynthOptions o;
        o.config = synth::flash_config();
        planned = synth::plan(o);
        for (const synth::PlannedTensor& p : planned) {
            gguf::Tensor t{p.name, &quant::format(p.type), static_cast<int>(p.ne.size()), {1, 1, 1, 1}, 0,
                           {}};
            std::ranges::copy(p.ne, t.ne.begin());
            tensors.push_back(t);
        }
        config.n_layers = 43;
        config.hidden = 4096;
        config.ratios.assign(o.config.compress_ratios.begin(), o.config.compress_ratios.end());
        config.n_heads = config.index_heads = config.rope_dims = 64;
        config.head_dim = config.index_top_k = 512;
        config.window = config.index_dim = 128;
        config.n_experts = 256;
        config.n_used_experts = 6;
    }

    std::vector<synth::PlannedTensor> planned;
    std::vector<gguf::Tensor> tensors;
    Config config;
};

Cost of_class(const std::vector<ClassCost>& costs, std::string_view title) {
    return std::ranges::find(costs, title, &ClassCost::title)->cost;
}

double weight_bytes(const std::vector<ClassCost>& costs) {
    return total_cost(costs).bytes - of_class(costs, "attention over rows").bytes -
           of_class(costs, "indexer scores").bytes;
}

// model.md 3.2
TEST(StepCost, CountsTheBytesOfADecodedToken) {
    const FlashTensors flash;
    EXPECT_NEAR(weight_bytes(step_costs(flash.tensors, flash.config, {2046, 1})), 9'193'024'420, 0.5);
    const auto costs = step_costs(flash.tensors, flash.config, {2052, 1});
    EXPECT_NEAR(weight_bytes(costs), 9'556'356'004, 0.5);
    EXPECT_EQ(of_class(costs, "embedding").bytes, 8'192);
    EXPECT_EQ(of_class(costs, "output head").bytes, 562'626'560);
    EXPECT_EQ(of_class(costs, "attention projections").bytes, 4'886'495'232);
    EXPECT_EQ(of_class(costs, "attention compressors").bytes, 520'157'184);
    EXPECT_EQ(of_class(costs, "indexer projections").bytes, 363'331'584);
    EXPECT_EQ(of_class(costs, "indexer compressors").bytes, 88'091'136);
    EXPECT_EQ(of_class(costs, "hash tables").bytes, 72);
    EXPECT_NEAR(of_class(costs, "routed experts, down").bytes, 710'148'096, 0.5);
    EXPECT_EQ(of_class(costs, "norms, biases, sinks").bytes, 1'836'288);
}

// model.md 19: 13.3 G multiply-adds beside attention, 45 G of the indexer at a million tokens.
TEST(StepCost, CountsTheOperationsOfADecodedToken) {
    const FlashTensors flash;
    const auto costs = step_costs(flash.tensors, flash.config, {4096, 1});
    const Cost weights = [&] {
        Cost sum = total_cost(costs);
        sum.f32_ops -= of_class(costs, "attention over rows").f32_ops;
        sum.f32_ops -= of_class(costs, "indexer scores").f32_ops;
        return sum;
    }();
    EXPECT_NEAR((weights.int8_ops + weights.f32_ops) / 2, 13.27e9, 0.01e9);
    EXPECT_NEAR(weights.f32_ops / 2, 0.57e9, 0.01e9);  // compressors, indexer, routers, hc
    const auto long_one = step_costs(flash.tensors, flash.config, {1'048'575, 1});
    EXPECT_NEAR(of_class(long_one, "indexer scores").f32_ops / 2, 45.1e9, 0.01e9);
    EXPECT_NEAR(of_class(long_one, "attention over rows").f32_ops / 2, 11.80e9, 0.01e9);
}

// model.md 13.2, with the raw window as the f32 that a session's ring holds
TEST(StepCost, CountsTheHistory) {
    const FlashTensors flash;
    const auto costs = step_costs(flash.tensors, flash.config, {32'767, 1});
    const double window = 43.0 * 128 * 512;
    const double packed = of_class(costs, "attention over rows").bytes +
                          of_class(costs, "indexer scores").bytes - window * 4 + window / 512 * 583;
    EXPECT_NEAR(packed, 24'160'384, 1);
}

TEST(StepCost, RowsOfAStepShareTheWeights) {
    const FlashTensors flash;
    const auto one = step_costs(flash.tensors, flash.config, {0, 1});
    const auto many = step_costs(flash.tensors, flash.config, {0, 512});
    EXPECT_EQ(of_class(many, "shared expert").bytes, of_class(one, "shared expert").bytes);
    EXPECT_EQ(of_class(many, "shared expert").int8_ops, 512 * of_class(one, "shared expert").int8_ops);
    EXPECT_EQ(of_class(many, "output head").int8_ops, of_class(one, "output head").int8_ops);
    EXPECT_EQ(of_class(many, "embedding").bytes, 512 * of_class(one, "embedding").bytes);
    // 512 tokens miss one expert in 181,000.
    EXPECT_NEAR(of_class(many, "routed experts, down").bytes / 30'299'652'096, 1, 1e-4);
    EXPECT_NEAR(
        of_class(many, "routed experts, down").int8_ops / of_class(one, "routed experts, down").int8_ops, 512,
        1e-6);
}

TEST(TensorClass, TellsNamesApart) {
    EXPECT_EQ(tensor_class("blk.4.attn_compressor_norm.weight"), "norms, biases, sinks");
    EXPECT_EQ(tensor_class("blk.4.indexer.attn_q_b.weight"), "indexer projections");
    EXPECT_EQ(tensor_class("blk.4.attn_output_a.weight"), "attention projections");
    EXPECT_EQ(tensor_class("blk.4.exp_probs_b.bias"), "norms, biases, sinks");
    EXPECT_EQ(tensor_class("mtp.0.e_proj.weight"), "MTP projections");
    EXPECT_EQ(tensor_class("output_hc_fn.weight"), "hyper-connections");
}

}  // namespace
}  // namespace ds4
