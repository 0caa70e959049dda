#include "model/workspace.h"

#include <algorithm>

namespace ds4 {
namespace {

struct Buffer {
    Rows Workspace::*rows;
    std::int64_t width;
};

// Every buffer with one row per token; constructor and bytes_for() read the same list.
std::vector<Buffer> buffers(const Config& c) {
    using W = Workspace;
    return {
        {&W::streams, c.n_streams * c.hidden},
        {&W::x, c.hidden},
        {&W::y, c.hidden},
        {&W::post, c.n_streams},
        {&W::comb, c.n_streams * c.n_streams},
        {&W::q_low, c.q_rank},
        {&W::q, c.n_heads * c.head_dim},
        {&W::kv, c.head_dim},
        {&W::heads, c.n_heads * c.head_dim},
        {&W::out_low, c.out_groups * c.out_rank},
        {&W::pooled_value, 2 * c.head_dim},
        {&W::pooled_score, 2 * c.head_dim},
        {&W::index_value, 2 * c.index_dim},
        {&W::index_score, 2 * c.index_dim},
        {&W::index_q, c.index_heads * c.index_dim},
        {&W::index_weight, c.index_heads},
        {&W::router_logits, c.n_experts},
        {&W::gate, c.expert_width},
        {&W::up, c.expert_width},
        {&W::shared, c.hidden},
    };
}

// selection: TK rows and a count; routing: K experts and weights.
std::int64_t index_words(const Config& c) {
    return c.index_top_k + 1 + 2 * c.n_used_experts;
}

}  // namespace

std::size_t Workspace::bytes_for(const Config& config, std::int64_t max_rows) {
    std::int64_t words = index_words(config);
    for (const Buffer& b : buffers(config)) words += b.width;
    const std::int64_t head = std::min(max_rows, kHeadRows) * (config.vocab + 1);
    return static_cast<std::size_t>(max_rows * words + head) * sizeof(float);
}

Workspace::Workspace(const Config& c, Backend& backend, std::int64_t max_rows)
    : backend_(backend), max_rows_(max_rows) {
    const auto rows = [&](std::int64_t n, std::int64_t width) {
        return Rows{static_cast<float*>(allocate(n * width, sizeof(float))), n, width};
    };
    for (const Buffer& b : buffers(c)) this->*b.rows = rows(max_rows, b.width);
    logits = rows(std::min(max_rows, kHeadRows), c.vocab);
    best = static_cast<std::int32_t*>(allocate(logits.n, sizeof(std::int32_t)));
    selection.capacity = c.index_top_k;
    selection.rows = static_cast<std::int32_t*>(allocate(max_rows * c.index_top_k, sizeof(std::int32_t)));
    selection.count = static_cast<std::int32_t*>(allocate(max_rows, sizeof(std::int32_t)));
    routing.n_used = c.n_used_experts;
    routing.expert = static_cast<std::int32_t*>(allocate(max_rows * c.n_used_experts, sizeof(std::int32_t)));
    routing.weight = static_cast<float*>(allocate(max_rows * c.n_used_experts, sizeof(float)));
}

void* Workspace::allocate(std::int64_t n, std::size_t item_bytes) {
    blocks_.emplace_back(backend_, static_cast<std::size_t>(n) * item_bytes);
    return blocks_.back().get();
}

}  // namespace ds4
