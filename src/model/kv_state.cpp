#include "model/kv_state.h"

#include <algorithm>

namespace ds4 {
namespace {

std::shared_ptr<KvMeter> meter_or_own(std::shared_ptr<KvMeter> meter) {
    return meter != nullptr ? std::move(meter) : std::make_shared<KvMeter>(0);
}

PagedRows rows_of(const KvLayout::List& list) {
    return {nullptr, list.offset, list.log2_rows, list.format};
}

}  // namespace

KvState::KvState(const KvLayout& layout, Backend& backend, std::shared_ptr<KvMeter> meter)
    : layout_(layout),
      backend_(backend),
      meter_(meter_or_own(std::move(meter))),
      held_(meter_, layout.own_bytes) {
    layers_.reserve(layout.layers.size());
    for (const KvLayout::Layer& of : layout.layers) {
        Layer& layer = layers_.emplace_back(
            BackendMemory(backend, static_cast<std::size_t>(of.own_floats()) * sizeof(float)),
            LayerHistory{});
        float* at = static_cast<float*>(layer.memory.get());
        const auto take = [&](std::int64_t n) { return std::exchange(at, at + n); };
        LayerHistory& parts = layer.parts;
        parts.window = take(of.window_floats);
        parts.window_rows = layout.window;
        parts.compressor.value = take(of.frontier_floats);
        parts.compressor.score = take(of.frontier_floats);
        parts.indexer_compressor.value = take(of.indexer_frontier_floats);
        parts.indexer_compressor.score = take(of.indexer_frontier_floats);
        parts.compressed = rows_of(of.compressed);
        parts.indexer = rows_of(of.indexer);
    }
    clear();
}

void KvState::add_page(std::shared_ptr<KvPage> page) {
    page_data_.reserve(pages_.size() + 1);
    pages_.push_back(std::move(page));
    page_data_.push_back(pages_.back()->data());
}

void KvState::claim_last_page(std::int64_t n_more) {
    const std::int64_t used = n_tokens() % KvLayout::kPageTokens;
    if (used == 0) return;
    std::shared_ptr<KvPage>& page = pages_.back();
    if (page->n_written != used) {
        auto copy = std::make_shared<KvPage>(backend_, layout_, meter_, page->previous);
        std::vector<std::byte> rows(layout_.page_bytes);
        backend_.download(rows.data(), page->data(), rows.size());
        backend_.upload(copy->data(), rows.data(), rows.size());
        std::copy_n(page->tokens.begin(), used, copy->tokens.begin());
        page = std::move(copy);
        page_data_.back() = page->data();
    }
    page->n_written = std::min(KvLayout::kPageTokens, used + n_more);
}

void KvState::reserve(std::int64_t n_more) {
    if (n_more <= 0) return;
    // What a step that failed has left behind may hang on a page that is about to be copied.
    const std::size_t n_used = (tokens_.size() + KvLayout::kPageTokens - 1) / KvLayout::kPageTokens;
    pages_.resize(n_used);
    page_data_.resize(n_used);
    claim_last_page(n_more);
    const std::int64_t end = n_tokens() + n_more;
    for (auto first = static_cast<std::int64_t>(pages_.size()) * KvLayout::kPageTokens; first < end;
         first += KvLayout::kPageTokens) {
        auto previous = pages_.empty() ? nullptr : pages_.back();
        auto page = std::make_shared<KvPage>(backend_, layout_, meter_, std::move(previous));
        page->n_written = std::min(KvLayout::kPageTokens, end - first);
        add_page(std::move(page));
    }
    // The list of tokens grows together with the pages, so that the steps between allocate nothing.
    const std::size_t room = pages_.size() * KvLayout::kPageTokens;
    if (tokens_.capacity() < room) tokens_.reserve(std::max(room, 2 * tokens_.capacity()));
}

void KvState::advance(std::span<const TokenId> tokens) {
    for (const TokenId token : tokens) {
        KvPage& page = *pages_[tokens_.size() / KvLayout::kPageTokens];
        page.tokens[tokens_.size() % KvLayout::kPageTokens] = token;
        tokens_.push_back(token);
    }
}

LayerHistory KvState::history(std::int64_t layer) const {
    const KvLayout::Layer& of = layout_.layers[static_cast<std::size_t>(layer)];
    LayerHistory h = layers_[static_cast<std::size_t>(layer)].parts;
    if (of.compressed.ratio != 0) h.compressed.pages = page_data_.data();
    if (of.indexer.ratio != 0) h.indexer.pages = page_data_.data();
    return h;
}

KvCheckpoint KvState::checkpoint() const {
    KvCheckpoint checkpoint;
    checkpoint.n_tokens = n_tokens();
    if (!tokens_.empty()) {
        checkpoint.last_page = pages_[(tokens_.size() - 1) / KvLayout::kPageTokens];
    }
    checkpoint.state.resize(layout_.state_bytes(n_tokens()));
    // A layer at a time: whoever decodes waits for this, and fresh memory for all of them costs more than the
    // copying.
    std::vector<float> own;
    std::byte* at = checkpoint.state.data();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const KvLayout::Layer& layer = layout_.layers[i];
        own.resize(static_cast<std::size_t>(layer.own_floats()));
        backend_.download(own.data(), layers_[i].memory.get(), own.size() * sizeof(float));
        at = encode_state(layout_, layer, n_tokens(), own.data(), at);
    }
    checkpoint.held = KvBytes(meter_, checkpoint.state.size());
    return checkpoint;
}

void KvState::upload_own(const std::vector<float>& own) {
    const float* at = own.data();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const std::int64_t n = layout_.layers[i].own_floats();
        backend_.upload(layers_[i].memory.get(), at, static_cast<std::size_t>(n) * sizeof(float));
        at += n;
    }
}

void KvState::restore(const KvCheckpoint& checkpoint) {
    pages_.clear();
    page_data_.clear();
    for (auto& page : checkpoint.pages()) add_page(std::move(page));
    tokens_ = checkpoint.tokens(0);
    upload_own(decode_state(layout_, checkpoint.n_tokens, checkpoint.state.data()));
}

void KvState::clear() {
    pages_.clear();
    page_data_.clear();
    tokens_.clear();
    upload_own(empty_state(layout_));
}

}  // namespace ds4
