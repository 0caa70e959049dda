#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "model/kv_layout.h"

namespace ds4 {

// Memory that sessions and checkpoints of one engine hold, shared pages counted once.
using KvMeter = std::atomic<std::size_t>;

// A share of the meter.
class KvBytes {
  public:
    KvBytes() = default;
    KvBytes(std::shared_ptr<KvMeter> meter, std::size_t bytes) : meter_(std::move(meter)), bytes_(bytes) {
        *meter_ += bytes_;
    }
    KvBytes(KvBytes&& other) noexcept
        : meter_(std::move(other.meter_)), bytes_(std::exchange(other.bytes_, 0)) {}
    KvBytes& operator=(KvBytes&& other) noexcept {
        std::swap(meter_, other.meter_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    KvBytes(const KvBytes&) = delete;
    KvBytes& operator=(const KvBytes&) = delete;
    ~KvBytes() {
        if (meter_ != nullptr) *meter_ -= bytes_;
    }

    std::size_t get() const { return bytes_; }

  private:
    std::shared_ptr<KvMeter> meter_;
    std::size_t bytes_ = 0;
};

// The compressed rows of all layers for kPageTokens tokens, and these tokens. Pages point at the one before
// them, so sessions that share a beginning form a tree; a page lives as long as anybody's end needs it.
//
// Rows are only ever appended. Whoever stands where the writing ended may go on in the page; whoever stands
// before it (a fork, a session that was taken back) takes a copy of what it shares.
struct KvPage {
    // Throws std::bad_alloc.
    KvPage(Backend& backend, const KvLayout& layout, const std::shared_ptr<KvMeter>& meter,
           std::shared_ptr<KvPage> previous_page)
        : held(meter, layout.page_bytes),
          // A state of raw rows only has pages for its tokens.
          rows(backend, std::max<std::size_t>(1, layout.page_bytes)),
          previous(std::move(previous_page)) {}
    ~KvPage();
    KvPage(const KvPage&) = delete;
    KvPage& operator=(const KvPage&) = delete;

    std::byte* data() const { return static_cast<std::byte*>(rows.get()); }

    KvBytes held;
    BackendMemory rows;  // KvLayout::page_bytes
    std::array<TokenId, KvLayout::kPageTokens> tokens{};
    std::shared_ptr<KvPage> previous;
    std::int64_t n_written = 0;  // tokens that somebody has begun to write here
};

}  // namespace ds4
