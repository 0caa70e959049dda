#include "model/step_cost.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ds4 {
namespace {

// The first pattern found in the name decides.
struct Class {
    std::string_view pattern;
    std::string_view title;
};
constexpr std::string_view kSmall = "norms, biases, sinks";
constexpr std::string_view kIndexerQuery = "indexer projections";
constexpr std::string_view kAttention = "attention over rows";
constexpr std::string_view kIndexerScores = "indexer scores";
constexpr std::string_view kHead = "output head";
constexpr std::array<Class, 15> kClasses = {{
    {"_norm", kSmall},
    {"token_embd", "embedding"},
    {"output.weight", kHead},
    {"indexer_compressor", "indexer compressors"},
    {"indexer.", kIndexerQuery},
    {"attn_compressor", "attention compressors"},
    {"tid2eid", "hash tables"},
    {"ffn_gate_inp", "routers"},
    {"down_exps", "routed experts, down"},
    {"_exps", "routed experts, gate and up"},
    {"_shexp", "shared expert"},
    {"hc_", "hyper-connections"},
    {"attn_sinks", kSmall},
    {"attn_", "attention projections"},
    {"_proj", "MTP projections"},
}};

bool has(std::string_view name, std::string_view part) {
    return name.find(part) != std::string_view::npos;
}

double as_double(std::int64_t n) {
    return static_cast<double>(n);
}

class Steps {
  public:
    Steps(const Config& config, const StepShape& shape)
        : c_(config), shape_(shape), rows_(as_double(shape.n_rows)) {}

    bool indexer_chooses() const { return (shape_.n_context + shape_.n_rows) / 4 > c_.index_top_k; }

    Cost of(const gguf::Tensor& t) const {
        if (tensor_class(t.name) == kIndexerQuery && !indexer_chooses()) return {};
        const double bytes =
            static_cast<double>(quant::row_bytes(*t.format, t.ne[0])) * static_cast<double>(t.rows());
        // Tables: a row per token, which is copied or added.
        if (has(t.name, "token_embd") || has(t.name, "tid2eid") || has(t.name, "_ape")) {
            const double rows = static_cast<double>(t.rows());
            return {bytes / rows * std::min(rows, rows_), 0, 0};
        }
        if (has(t.name, "_exps")) {
            const double share = as_double(c_.n_used_experts) / as_double(c_.n_experts);
            return products(t, bytes * hit_share(share), rows_ * share);
        }
        return products(t, bytes, t.n_dims < 2 ? 0 : tensor_class(t.name) == kHead ? 1 : rows_);
    }

    Cost attention() const {
        Cost sum;
        for (const std::int64_t ratio : c_.ratios) {
            const double window = std::min(as_double(c_.window), mean_context());
            const double selected = ratio == 0   ? 0
                                    : ratio == 4 ? std::min(mean_context() / 4, as_double(c_.index_top_k))
                                                 : mean_context() / 128;
            const double exist = ratio == 0 ? 0 : last_context() / as_double(ratio);
            const auto row = quant::KvRowFormat::attention(shape_.kv_format, c_.head_dim, c_.rope_dims);
            sum.bytes += std::min(as_double(c_.window), as_double(shape_.n_context)) *
                             as_double(c_.head_dim) * sizeof(float) +
                         std::min(exist, selected * rows_) * static_cast<double>(row.bytes);
            // Scores and sums: keys are values.
            sum.f32_ops += 2 * 2 * rows_ * (window + selected) * as_double(c_.n_heads * c_.head_dim);
        }
        return sum;
    }

    Cost indexer_scores() const {
        if (!indexer_chooses()) return {};
        Cost sum;
        const auto row = quant::KvRowFormat::indexer(shape_.kv_format, c_.index_dim);
        for (const std::int64_t ratio : c_.ratios) {
            if (ratio != 4) continue;
            sum.bytes += last_context() / 4 * static_cast<double>(row.bytes);
            sum.f32_ops += 2 * rows_ * mean_context() / 4 * as_double(c_.index_heads * c_.index_dim);
        }
        return sum;
    }

  private:
    // Tokens that a row sees on average, itself included, and that the last row sees.
    double mean_context() const { return as_double(shape_.n_context) + (rows_ + 1) / 2; }
    double last_context() const { return as_double(shape_.n_context + shape_.n_rows); }

    // Share of the experts that n_rows tokens hit if each chooses this share of them at random.
    double hit_share(double share) const { return 1 - std::pow(1 - share, rows_); }

    static Cost products(const gguf::Tensor& t, double bytes, double times) {
        const double ops = 2 * static_cast<double>(t.elements()) * times;
        const bool is_quantised = t.format->block_elems > 1;
        return {bytes, is_quantised ? ops : 0, is_quantised ? 0 : ops};
    }

    const Config& c_;
    const StepShape& shape_;
    const double rows_;
};

}  // namespace

std::string_view tensor_class(std::string_view name) {
    const auto* found = std::ranges::find_if(kClasses, [&](const Class& c) { return has(name, c.pattern); });
    return found == kClasses.end() ? kSmall : found->title;
}

Cost& Cost::operator+=(const Cost& other) {
    bytes += other.bytes;
    int8_ops += other.int8_ops;
    f32_ops += other.f32_ops;
    return *this;
}

std::vector<ClassCost> step_costs(std::span<const gguf::Tensor> tensors, const Config& config,
                                  const StepShape& shape) {
    const Steps steps(config, shape);
    std::vector<ClassCost> costs;
    const auto of = [&](std::string_view title) -> Cost& {
        const auto found = std::ranges::find(costs, title, &ClassCost::title);
        return found == costs.end() ? costs.emplace_back(ClassCost{title, {}}).cost : found->cost;
    };
    for (const gguf::Tensor& t : tensors) of(tensor_class(t.name)) += steps.of(t);
    of(kAttention) += steps.attention();
    of(kIndexerScores) += steps.indexer_scores();
    return costs;
}

Cost total_cost(std::span<const ClassCost> costs) {
    Cost sum;
    for (const ClassCost& c : costs) sum += c.cost;
    return sum;
}

}  // namespace ds4
