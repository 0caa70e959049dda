#include "engine/device_plan.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "backend/gpu/placement.h"
#include "model/workspace.h"

namespace ds4 {
namespace {

std::string gigabytes(double bytes) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.2f GB", bytes / 1e9);
    return text.data();
}

// The largest of what operations work in (backend/gpu/lower*.cpp: rows of prompts in halves, routed experts,
// indexer scores, partial attention), twice because the block grows; and what weights pass through.
double scratch_bytes(const Config& c, std::int64_t max_rows) {
    constexpr double kScores = 64 << 20;
    constexpr double kPartial = 256 << 20;
    const std::int64_t n = std::min(gpu::kPromptRows, max_rows);
    const auto halves = static_cast<double>(n * c.n_heads * c.head_dim) * 2;
    // Halves or f32 between the products: f32 in the order of the file, in smaller pieces, is less.
    const std::int64_t a_pair = 2 * c.expert_width + 4 * c.hidden;
    const auto experts = static_cast<double>(n * (c.n_used_experts * a_pair + 4 * c.hidden));
    const std::int64_t in_file_order =
        std::min(gpu::kFileOrderRows, max_rows) * c.n_used_experts * (3 * c.expert_width + 2 * c.hidden) * 4;
    const auto selection = c.max_context > 4 * c.index_top_k ? kScores : 0.0;
    return 2 * std::max({halves, experts, static_cast<double>(in_file_order), selection, kPartial}) +
           static_cast<double>(gpu::kStagingBytes);
}

std::vector<DevicePlan::Tensor> distinct_tensors(const gguf::File& file) {
    std::vector<DevicePlan::Tensor> tensors;
    std::set<const std::byte*> seen;
    for (const gguf::Tensor& t : file.tensors()) {
        if (seen.insert(t.data.data()).second) tensors.push_back({&t, DevicePlan::Tensor::Where::device});
    }
    return tensors;
}

// Rows and inputs are rounded up where a device rearranges them.
double device_bytes(const gguf::Tensor& t) {
    const auto n = [&](std::size_t dim) { return static_cast<std::int64_t>(t.ne[dim]); };
    const auto bytes = static_cast<double>(t.data.size());
    if (t.n_dims < 2 || t.format->decode == nullptr) return bytes;
    const bool is_added = t.name.find("_ape.") != std::string::npos;
    const auto use = is_added ? Backend::MatrixUse::added : Backend::MatrixUse::product;
    return std::max(bytes, gpu::placed_bytes(t.format->type, n(0), n(1), n(2), use));
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
    for (const DevicePlan::Tensor& t : plan.tensors) plan.weights += device_bytes(*t.tensor);
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
