#include "model/kv_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "ds4/error.h"

// The bytes of a state, in this order per layer: the last min(n, window) rows of the ring from old to new,
// then values and scores of the compressor's frontier, then those of the indexer's. A frontier is the slots
// that hold a token: of ratio 4 the first halves of the closed window's four, then whole ones of the open
// window. Nothing else of a session's own block is ever read again (model.md 7.1).
namespace ds4 {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Visits the live stretches of one frontier array as (floats, count).
template <class Float, class Visit>
void for_each_live(Float* array, std::int64_t ratio, std::int64_t dim, std::int64_t n_tokens, Visit visit) {
    const std::int64_t width = Config::compressor_width(ratio, dim);
    const std::int64_t first_open = ratio == 4 ? ratio : 0;
    if (ratio == 4 && n_tokens >= ratio) {
        for (std::int64_t slot = 0; slot < ratio; ++slot) visit(array + slot * width, dim);
    }
    visit(array + first_open * width, n_tokens % ratio * width);
}

// Visits everything that lives in a layer's own block: row(values) for each row of the ring,
// floats(values, n) for the frontiers.
template <class Float, class Row, class Floats>
void for_each_part(const KvLayout& layout, const KvLayout::Layer& layer, std::int64_t n_tokens, Float* block,
                   Row row, Floats floats) {
    for (std::int64_t p = std::max<std::int64_t>(0, n_tokens - layout.window); p < n_tokens; ++p) {
        row(block + p % layout.window * layout.head_dim);
    }
    Float* at = block + layer.window_floats;
    if (layer.ratio == 0) return;
    for (int array = 0; array < 2; ++array, at += layer.frontier_floats) {
        for_each_live(at, layer.ratio, layout.head_dim, n_tokens, floats);
    }
    if (layer.ratio != 4) return;
    for (int array = 0; array < 2; ++array, at += layer.indexer_frontier_floats) {
        for_each_live(at, layer.ratio, layout.index_dim, n_tokens, floats);
    }
}

}  // namespace

std::vector<std::shared_ptr<KvPage>> KvCheckpoint::pages() const {
    std::vector<std::shared_ptr<KvPage>> pages;
    for (auto page = last_page; page != nullptr; page = page->previous) pages.push_back(page);
    std::reverse(pages.begin(), pages.end());
    return pages;
}

std::vector<TokenId> KvCheckpoint::tokens(std::int64_t from) const {
    std::vector<TokenId> tokens;
    tokens.reserve(static_cast<std::size_t>(n_tokens - from));
    const auto all = pages();
    for (std::int64_t p = from; p < n_tokens;) {
        const std::int64_t in_page = p % KvLayout::kPageTokens;
        const std::int64_t n = std::min(n_tokens - p, KvLayout::kPageTokens - in_page);
        const TokenId* first =
            all[static_cast<std::size_t>(p / KvLayout::kPageTokens)]->tokens.data() + in_page;
        tokens.insert(tokens.end(), first, first + n);
        p += n;
    }
    return tokens;
}

std::vector<float> empty_state(const KvLayout& layout) {
    std::vector<float> own;
    own.reserve(layout.own_bytes / sizeof(float));
    const auto add = [&](std::int64_t n, float value) {
        own.resize(own.size() + static_cast<std::size_t>(n), value);
    };
    for (const KvLayout::Layer& layer : layout.layers) {
        add(layer.window_floats + layer.frontier_floats, 0);
        add(layer.frontier_floats, kNever);
        add(layer.indexer_frontier_floats, 0);
        add(layer.indexer_frontier_floats, kNever);
    }
    return own;
}

std::byte* encode_state(const KvLayout& layout, const KvLayout::Layer& layer, std::int64_t n_tokens,
                        const float* own, std::byte* state) {
    const auto row = [&](const float* values) {
        quant::encode_kv_row(layout.raw_row, values, state);
        state += layout.raw_row.bytes;
    };
    const auto floats = [&](const float* values, std::int64_t n) {
        const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
        std::memcpy(state, values, bytes);
        state += bytes;
    };
    for_each_part(layout, layer, n_tokens, own, row, floats);
    return state;
}

std::vector<float> decode_state(const KvLayout& layout, std::int64_t n_tokens, const std::byte* state) {
    std::vector<float> own = empty_state(layout);
    const auto row = [&](float* values) {
        quant::decode_kv_row(layout.raw_row, state, values);
        state += layout.raw_row.bytes;
    };
    const auto floats = [&](float* values, std::int64_t n) {
        const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
        std::memcpy(values, state, bytes);
        state += bytes;
    };
    float* block = own.data();
    for (const KvLayout::Layer& layer : layout.layers) {
        for_each_part(layout, layer, n_tokens, block, row, floats);
        block += layer.own_floats();
    }
    return own;
}

void read_rows(const KvLayout& layout, Backend& backend, const KvCheckpoint& checkpoint, std::int64_t from,
               std::byte* out) {
    const auto pages = checkpoint.pages();
    layout.for_each_run(
        from, checkpoint.n_tokens, [&](std::int64_t page, std::size_t offset, std::size_t bytes) {
            backend.download(out, pages[static_cast<std::size_t>(page)]->data() + offset, bytes);
            out += bytes;
        });
}

void KvBuilder::add(std::span<const TokenId> tokens, std::span<const std::byte> rows) {
    const std::int64_t end = n_tokens_ + static_cast<std::int64_t>(tokens.size());
    if (rows.size() != layout_.rows_bytes(n_tokens_, end)) {
        throw Error("the rows of tokens " + std::to_string(n_tokens_) + " to " + std::to_string(end) +
                    " are " + std::to_string(rows.size()) + " bytes, expected " +
                    std::to_string(layout_.rows_bytes(n_tokens_, end)));
    }
    while (static_cast<std::int64_t>(pages_.size()) * KvLayout::kPageTokens < end) {
        auto previous = pages_.empty() ? nullptr : pages_.back();
        pages_.push_back(std::make_shared<KvPage>(backend_, layout_, meter_, std::move(previous)));
    }
    const std::byte* from = rows.data();
    layout_.for_each_run(n_tokens_, end, [&](std::int64_t page, std::size_t offset, std::size_t bytes) {
        backend_.upload(pages_[static_cast<std::size_t>(page)]->data() + offset, from, bytes);
        from += bytes;
    });
    for (const TokenId token : tokens) {
        KvPage& page = *pages_[static_cast<std::size_t>(n_tokens_ / KvLayout::kPageTokens)];
        page.tokens[static_cast<std::size_t>(n_tokens_ % KvLayout::kPageTokens)] = token;
        page.n_written = n_tokens_++ % KvLayout::kPageTokens + 1;
    }
}

KvCheckpoint KvBuilder::finish(std::span<const std::byte> state) {
    if (state.size() != layout_.state_bytes(n_tokens_)) {
        throw Error("the state after " + std::to_string(n_tokens_) + " tokens is " +
                    std::to_string(state.size()) + " bytes, expected " +
                    std::to_string(layout_.state_bytes(n_tokens_)));
    }
    KvCheckpoint checkpoint;
    checkpoint.n_tokens = n_tokens_;
    if (!pages_.empty()) checkpoint.last_page = pages_.back();
    checkpoint.state.assign(state.begin(), state.end());
    checkpoint.held = KvBytes(meter_, state.size());
    return checkpoint;
}

}  // namespace ds4
