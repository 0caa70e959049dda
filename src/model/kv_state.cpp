#include "model/kv_state.h"

#include <algorithm>
#include <limits>

namespace ds4 {
namespace {

// Floats of one frontier array (value or score).
std::int64_t frontier_floats(std::int64_t ratio, std::int64_t dim) {
    return Config::frontier_slots(ratio) * Config::compressor_width(ratio, dim);
}

// Floats of a layer's ring and frontiers.
std::int64_t mutable_floats(const Config& c, std::int64_t ratio) {
    std::int64_t n = c.window * c.head_dim;
    if (ratio != 0) n += 2 * frontier_floats(ratio, c.head_dim);
    if (ratio == 4) n += 2 * frontier_floats(ratio, c.index_dim);
    return n;
}

std::int64_t pages_for(std::int64_t n_rows) {
    return (n_rows + PagedRows::kRowsPerPage - 1) / PagedRows::kRowsPerPage;
}

}  // namespace

std::size_t KvState::bytes_for(const Config& config, std::span<const std::int64_t> ratios,
                               std::int64_t n_tokens) {
    std::int64_t floats = 0;
    for (const std::int64_t ratio : ratios) {
        floats += mutable_floats(config, ratio);
        if (ratio == 0) continue;
        const std::int64_t width = config.head_dim + (ratio == 4 ? config.index_dim : 0);
        floats += pages_for(n_tokens / ratio) * PagedRows::kRowsPerPage * width;
    }
    return static_cast<std::size_t>(floats) * sizeof(float);
}

KvState::KvState(const Config& config, std::vector<std::int64_t> ratios, Backend& backend)
    : backend_(backend) {
    layers_.reserve(ratios.size());
    for (const std::int64_t ratio : ratios) {
        const std::int64_t window = config.window * config.head_dim;
        const std::int64_t attention = ratio == 0 ? 0 : frontier_floats(ratio, config.head_dim);
        const std::int64_t indexer = ratio == 4 ? frontier_floats(ratio, config.index_dim) : 0;
        const std::int64_t floats = mutable_floats(config, ratio);
        const std::size_t size = static_cast<std::size_t>(floats) * sizeof(float);
        Layer& layer = layers_.emplace_back(ratio, BackendMemory(backend, size));
        layer.mutable_part = static_cast<float*>(layer.memory.get());
        layer.mutable_floats = floats;
        layer.compressed.width = config.head_dim;
        layer.indexer.width = config.index_dim;
        bytes_ += size;
        float* at = layer.mutable_part;
        layer.parts.window = at;
        layer.parts.window_rows = config.window;
        at += window;
        layer.parts.compressor = {at, at + attention};
        at += 2 * attention;
        layer.parts.indexer_compressor = {at, at + indexer};
        reset_layer(layer);
    }
}

void KvState::reset_layer(const Layer& layer) {
    std::vector<float> initial(static_cast<std::size_t>(layer.mutable_floats), 0.0F);
    const auto fill_scores = [&](const Frontier& frontier) {
        const auto n = frontier.score - frontier.value;
        std::fill_n(initial.begin() + (frontier.score - layer.mutable_part), n,
                    -std::numeric_limits<float>::infinity());
    };
    fill_scores(layer.parts.compressor);
    fill_scores(layer.parts.indexer_compressor);
    backend_.upload(layer.mutable_part, initial.data(), initial.size() * sizeof(float));
}

void KvState::grow(List& list, std::int64_t n_rows) {
    const std::int64_t n_pages = pages_for(n_rows);
    const std::size_t page_bytes =
        static_cast<std::size_t>(PagedRows::kRowsPerPage * list.width) * sizeof(float);
    while (static_cast<std::int64_t>(list.pages.size()) < n_pages) {
        list.pages.reserve(list.pages.size() + 1);
        list.memory.emplace_back(backend_, page_bytes);
        list.pages.push_back(static_cast<float*>(list.memory.back().get()));
        bytes_ += page_bytes;
    }
}

void KvState::reserve(std::int64_t n_more) {
    for (Layer& layer : layers_) {
        if (layer.ratio == 0) continue;
        const std::int64_t n_rows = (n_tokens_ + n_more) / layer.ratio;
        grow(layer.compressed, n_rows);
        if (layer.ratio == 4) grow(layer.indexer, n_rows);
    }
}

LayerHistory KvState::history(std::int64_t layer) const {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    LayerHistory h = l.parts;
    h.compressed = {l.compressed.pages.data(), l.compressed.width};
    h.indexer = {l.indexer.pages.data(), l.indexer.width};
    return h;
}

KvState::Snapshot KvState::snapshot() const {
    Snapshot s;
    s.n_tokens = n_tokens_;
    std::int64_t total = 0;
    for (const Layer& layer : layers_) total += layer.mutable_floats;
    s.mutable_part.resize(static_cast<std::size_t>(total));
    float* at = s.mutable_part.data();
    for (const Layer& layer : layers_) {
        backend_.download(at, layer.mutable_part,
                          static_cast<std::size_t>(layer.mutable_floats) * sizeof(float));
        at += layer.mutable_floats;
    }
    return s;
}

void KvState::restore(const Snapshot& s) {
    const float* at = s.mutable_part.data();
    for (const Layer& layer : layers_) {
        backend_.upload(layer.mutable_part, at,
                        static_cast<std::size_t>(layer.mutable_floats) * sizeof(float));
        at += layer.mutable_floats;
    }
    n_tokens_ = s.n_tokens;
}

void KvState::clear() {
    for (const Layer& layer : layers_) reset_layer(layer);
    n_tokens_ = 0;
}

}  // namespace ds4
