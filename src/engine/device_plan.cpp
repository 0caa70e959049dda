#include "engine/device_plan.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "model/workspace.h"

namespace ds4 {
namespace {

std::string gigabytes(double bytes) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.2f GB", bytes / 1e9);
    return text.data();
}

// The largest of what operations work in (backend/gpu/lower*.cpp: routed experts in blocks of rows, indexer
// scores, partial attention), twice because the block grows.
double scratch_bytes(const Config& c, std::int64_t max_rows) {
    constexpr std::int64_t kExpertRows = 512;
    constexpr double kScores = 64 << 20;
    constexpr double kPartial = 256 << 20;
    const std::int64_t n_pairs = std::min(kExpertRows, max_rows) * c.n_used_experts;
    const auto experts = static_cast<double>(n_pairs * (3 * c.expert_width + 2 * c.hidden)) * sizeof(float);
    const auto selection = c.max_context > 4 * c.index_top_k ? kScores : 0.0;
    return 2 * std::max({experts, selection, kPartial});
}

std::vector<DevicePlan::Tensor> distinct_tensors(const gguf::File& file) {
    std::vector<DevicePlan::Tensor> tensors;
    std::set<const std::byte*> seen;
    for (const gguf::Tensor& t : file.tensors()) {
        if (seen.insert(t.data.data()).second) tensors.push_back({&t, DevicePlan::Tensor::Where::device});
    }
    return tensors;
}

}  // namespace

std::string DevicePlan::text(const EngineOptions& options) const {
    std::string text = gigabytes(needed()) + " of GPU memory are needed and " + gigabytes(free) + " of " +
                       gigabytes(total) + " are free: weights " + gigabytes(weights);
    if (options.plan_context > 0) {
        text += ", KV state " + gigabytes(kv_state) + " for " + std::to_string(options.plan_sessions) +
                " x " + std::to_string(options.plan_context) + " tokens";
    }
    return text + ", activations " + gigabytes(activations) + ", working memory " + gigabytes(scratch);
}

DevicePlan plan_device(const gguf::File& file, const Config& config, const KvLayout& layout,
                       const EngineOptions& options, double free, double total) {
    DevicePlan plan;
    plan.tensors = distinct_tensors(file);
    for (const DevicePlan::Tensor& t : plan.tensors)
        plan.weights += static_cast<double>(t.tensor->data.size());
    if (options.plan_context > 0) {
        const std::int64_t n_tokens = std::min(options.plan_context, config.max_context);
        plan.kv_state =
            static_cast<double>(options.plan_sessions) * static_cast<double>(layout.bytes_for(n_tokens));
    }
    plan.activations = static_cast<double>(Workspace::bytes_for(config, options.max_batch));
    plan.scratch = scratch_bytes(config, options.max_batch);
    plan.free = free;
    plan.total = total;
    if (plan.fits()) return plan;
    const bool weights_fit = plan.weights + plan.scratch <= free;
    throw DeviceMemoryError(file.path().string() + ": " + plan.text(options) + "; use " +
                            (weights_fit ? "a shorter --ctx, fewer sessions, a smaller --prefill-chunk"
                                         : "a smaller file, a GPU with more memory") +
                            ", or --backend cpu");
}

}  // namespace ds4
