#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/kv_checkpoint.h"
#include "model/kv_layout.h"
#include "model/kv_page.h"

namespace ds4 {

// Everything the model remembers of one session (model.md 13.1): pages of compressed rows, and per layer a
// ring of the last raw rows and small compressor frontiers. How many compressed rows there are follows from
// the number of tokens, so it is not stored.
class KvState {
  public:
    // The layout and the backend must outlive it. meter: nullptr counts nowhere.
    KvState(const KvLayout& layout, Backend& backend, std::shared_ptr<KvMeter> meter = nullptr);

    std::span<const TokenId> tokens() const { return tokens_; }
    std::int64_t n_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }
    // Of backend memory, pages shared with others included.
    std::size_t bytes() const { return layout_.bytes_for(n_tokens()); }

    // Makes room for the rows that n_more tokens will close. Throws std::bad_alloc; the state stays as it
    // was.
    void reserve(std::int64_t n_more);
    // The step that appended these tokens is complete.
    void advance(std::span<const TokenId> tokens);

    // What the operations see of one layer. Valid until the next reserve().
    LayerHistory history(std::int64_t layer) const;

    KvCheckpoint checkpoint() const;
    // Becomes what the checkpoint was taken from: this session earlier, or another one of the same layout.
    void restore(const KvCheckpoint& checkpoint);
    // Back to no tokens.
    void clear();

  private:
    struct Layer {
        BackendMemory memory;
        LayerHistory parts;  // pointers into memory; rows without their pages
    };

    // The last page, if part of it is in use, becomes this session's to write to.
    void claim_last_page(std::int64_t n_more);
    void add_page(std::shared_ptr<KvPage> page);
    void upload_own(const std::vector<float>& own);

    const KvLayout& layout_;
    Backend& backend_;
    std::shared_ptr<KvMeter> meter_;
    KvBytes held_;
    std::vector<Layer> layers_;
    std::vector<std::shared_ptr<KvPage>> pages_;
    std::vector<std::byte*> page_data_;  // what the pages hold, as the operations want it
    std::vector<TokenId> tokens_;
};

}  // namespace ds4
