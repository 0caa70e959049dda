#include "model/kv_layout.h"

#include <algorithm>
#include <bit>

namespace ds4 {
namespace {

// Floats of one frontier array (value or score).
std::int64_t frontier_floats(std::int64_t ratio, std::int64_t dim) {
    return Config::frontier_slots(ratio) * Config::compressor_width(ratio, dim);
}

// Floats of one array of a frontier in a checkpoint, model.md 7.1: the first halves of the closed window and
// the open one (ratio 4), or the open one.
std::int64_t live_frontier_floats(std::int64_t ratio, std::int64_t dim, std::int64_t n_tokens) {
    const std::int64_t closed = ratio == 4 && n_tokens >= ratio ? ratio * dim : 0;
    return closed + n_tokens % ratio * Config::compressor_width(ratio, dim);
}

}  // namespace

KvLayout::KvLayout(const Config& config, std::span<const std::int64_t> ratios, quant::KvFormat format)
    : head_dim(config.head_dim), index_dim(config.index_dim), window(config.window) {
    // F16 cannot hold every value of the FP8 grid, and a checkpoint loses nothing.
    raw_row = quant::KvRowFormat::attention(format == quant::KvFormat::packed ? format : quant::KvFormat::f32,
                                            head_dim, config.rope_dims);
    const auto add_list = [&](std::int64_t ratio, const quant::KvRowFormat& row) {
        const std::int64_t rows = kPageTokens / ratio;
        const List list{ratio, page_bytes, std::countr_zero(static_cast<std::uint64_t>(rows)), row};
        page_bytes += static_cast<std::size_t>(rows) * row.bytes;
        return list;
    };
    for (const std::int64_t ratio : ratios) {
        Layer& layer = layers.emplace_back();
        layer.ratio = ratio;
        layer.window_floats = window * head_dim;
        if (ratio != 0) {
            layer.compressed =
                add_list(ratio, quant::KvRowFormat::attention(format, head_dim, config.rope_dims));
            layer.frontier_floats = frontier_floats(ratio, head_dim);
        }
        if (ratio == 4) {
            layer.indexer = add_list(ratio, quant::KvRowFormat::indexer(format, index_dim));
            layer.indexer_frontier_floats = frontier_floats(ratio, index_dim);
        }
        own_bytes += static_cast<std::size_t>(layer.own_floats()) * sizeof(float);
    }
}

std::size_t KvLayout::bytes_for(std::int64_t n_tokens) const {
    return own_bytes + static_cast<std::size_t>((n_tokens + kPageTokens - 1) / kPageTokens) * page_bytes;
}

std::size_t KvLayout::rows_bytes(std::int64_t from, std::int64_t to) const {
    std::size_t bytes = 0;
    for (const Layer& layer : layers) {
        for (const List* list : {&layer.compressed, &layer.indexer}) {
            if (list->ratio == 0) continue;
            bytes += static_cast<std::size_t>(to / list->ratio - from / list->ratio) * list->format.bytes;
        }
    }
    return bytes;
}

void KvLayout::for_each_run(
    std::int64_t from, std::int64_t to,
    const std::function<void(std::int64_t page, std::size_t offset, std::size_t bytes)>& visit) const {
    for (const Layer& layer : layers) {
        for (const List* list : {&layer.compressed, &layer.indexer}) {
            if (list->ratio == 0) continue;
            const std::int64_t per_page = std::int64_t{1} << list->log2_rows;
            const std::int64_t end = to / list->ratio;
            for (std::int64_t row = from / list->ratio; row < end;) {
                const std::int64_t in_page = row % per_page;
                const std::int64_t n = std::min(end - row, per_page - in_page);
                visit(row / per_page, list->offset + static_cast<std::size_t>(in_page) * list->format.bytes,
                      static_cast<std::size_t>(n) * list->format.bytes);
                row += n;
            }
        }
    }
}

std::size_t KvLayout::state_bytes(std::int64_t n_tokens) const {
    const auto window_rows = static_cast<std::size_t>(std::min(n_tokens, window));
    std::size_t bytes = 0;
    for (const Layer& layer : layers) {
        bytes += window_rows * raw_row.bytes;
        std::int64_t floats = 0;
        if (layer.ratio != 0) floats += live_frontier_floats(layer.ratio, head_dim, n_tokens);
        if (layer.ratio == 4) floats += live_frontier_floats(layer.ratio, index_dim, n_tokens);
        bytes += static_cast<std::size_t>(2 * floats) * sizeof(float);
    }
    return bytes;
}

}  // namespace ds4
