#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/config.h"
#include "quant/kv_rows.h"

namespace ds4 {

// Where everything of a session's state lies (model.md 13): in pages of compressed rows, which sessions
// share, in a session's own rings and frontiers, and in the bytes of a checkpoint.
struct KvLayout {
    // The compressed rows of one kind in one layer; row i belongs to the tokens [i * ratio, (i + 1) * ratio).
    struct List {
        std::int64_t ratio = 0;  // 0: the layer has no such rows
        std::size_t offset = 0;  // bytes, in each page
        int log2_rows = 0;       // of the rows per page
        quant::KvRowFormat format;
    };
    struct Layer {
        std::int64_t ratio = 0;
        List compressed, indexer;
        // Floats of the session's own block: the ring, then values and scores of each frontier.
        std::int64_t window_floats = 0;
        std::int64_t frontier_floats = 0;          // of one array
        std::int64_t indexer_frontier_floats = 0;  // of one array
        std::int64_t own_floats() const {
            return window_floats + 2 * frontier_floats + 2 * indexer_frontier_floats;
        }
    };

    // Rows of this many tokens make a page: two of ratio 128, 64 of ratio 4.
    static constexpr std::int64_t kPageTokens = 256;

    // For layers of these ratios: the trunk's, or a single 0 for the MTP block.
    KvLayout(const Config& config, std::span<const std::int64_t> ratios, quant::KvFormat format);

    // Backend memory of a session with n_tokens, pages rounded up.
    std::size_t bytes_for(std::int64_t n_tokens) const;

    // ---- bytes of a checkpoint

    // Rows that the tokens [from, to) close: layer by layer, attention rows before indexer rows.
    std::size_t rows_bytes(std::int64_t from, std::int64_t to) const;
    // The same as runs of bytes that are contiguous in a page, in that order.
    void for_each_run(
        std::int64_t from, std::int64_t to,
        const std::function<void(std::int64_t page, std::size_t offset, std::size_t bytes)>& visit) const;
    // Rings and frontiers after n_tokens: see kv_checkpoint.cpp.
    std::size_t state_bytes(std::int64_t n_tokens) const;

    std::int64_t head_dim = 0;
    std::int64_t index_dim = 0;
    std::int64_t window = 0;
    quant::KvRowFormat raw_row;  // of a ring in a checkpoint
    std::vector<Layer> layers;
    std::size_t page_bytes = 0;
    std::size_t own_bytes = 0;  // of all layers' own blocks
};

}  // namespace ds4
