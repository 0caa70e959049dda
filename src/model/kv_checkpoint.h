#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_page.h"

namespace ds4 {

// A state after n_tokens, for good: its pages, shared with whoever else has them, and what later tokens
// overwrite. Reading it is safe beside sessions that go on.
struct KvCheckpoint {
    std::int64_t n_tokens = 0;
    std::shared_ptr<KvPage> last_page;  // nullptr: no tokens
    std::vector<std::byte> state;       // KvLayout::state_bytes
    KvBytes held;

    // From the first page on.
    std::vector<std::shared_ptr<KvPage>> pages() const;
    // [from, n_tokens)
    std::vector<TokenId> tokens(std::int64_t from) const;
};

// ---- rings and frontiers as bytes

// One layer's own block (KvLayout::Layer) after n_tokens. Returns where the next layer's bytes begin;
// together they are state_bytes(n_tokens).
std::byte* encode_state(const KvLayout& layout, const KvLayout::Layer& layer, std::int64_t n_tokens,
                        const float* own, std::byte* state);
// The inverse, every layer's own block, one after the other; slots without a token come back empty
// (model.md 7.1).
std::vector<float> decode_state(const KvLayout& layout, std::int64_t n_tokens, const std::byte* state);
// Own blocks of a session without tokens.
std::vector<float> empty_state(const KvLayout& layout);

// ---- rows as bytes

// Rows that the tokens [from, checkpoint.n_tokens) closed, KvLayout::rows_bytes, into out.
void read_rows(const KvLayout& layout, Backend& backend, const KvCheckpoint& checkpoint, std::int64_t from,
               std::byte* out);

// Puts a checkpoint together from pieces that follow each other.
class KvBuilder {
  public:
    // The references must outlive it.
    KvBuilder(const KvLayout& layout, Backend& backend, std::shared_ptr<KvMeter> meter)
        : layout_(layout), backend_(backend), meter_(std::move(meter)) {}

    std::int64_t n_tokens() const { return n_tokens_; }
    // Tokens and the rows they close. Throws Error if the rows' size is not theirs.
    void add(std::span<const TokenId> tokens, std::span<const std::byte> rows);
    // Throws Error if the state's size is not that of the tokens so far.
    KvCheckpoint finish(std::span<const std::byte> state);

  private:
    const KvLayout& layout_;
    Backend& backend_;
    std::shared_ptr<KvMeter> meter_;
    std::vector<std::shared_ptr<KvPage>> pages_;
    std::int64_t n_tokens_ = 0;
};

}  // namespace ds4
