#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "backend/backend.h"
#include "backend/device.h"

// Sessions in the middle of a text, for the operations that have a history.
namespace ds4::test {

// Shapes of one layer.
struct LayerShape {
    std::int64_t ratio = 0;
    std::int64_t head_dim = 0;
    std::int64_t index_dim = 0;
    std::int64_t window_rows = 0;
    quant::KvFormat format = quant::KvFormat::f32;  // of stored rows
    std::int64_t n_tail = 0;                        // F16 dims of a packed attention row

    bool overlapping() const { return ratio == 4; }
    std::int64_t width(std::int64_t dim) const { return overlapping() ? 2 * dim : dim; }
    std::int64_t slots() const { return overlapping() ? 2 * ratio : ratio; }
};

// The history of one session in one layer after `start` tokens, filled at random, with pages for `n_more`.
class TestSession {
  public:
    // integer_index: indexer rows of small integers, whose scores are exact in f32.
    TestSession(Device& device, Random& random, const LayerShape& shape, std::int64_t start,
                std::int64_t n_more)
        : device_(device), shape_(shape), n_tokens_(start + n_more) {
        history_.window_rows = shape.window_rows;
        history_.window = device.upload(window(random, start));
        if (shape.ratio == 0) return;
        history_.compressed =
            paged(random.gaussian(start / shape.ratio * shape.head_dim),
                  quant::KvRowFormat::attention(shape.format, shape.head_dim, shape.n_tail));
        history_.compressor = frontier(random, shape.head_dim, start);
        if (!shape.overlapping()) return;
        history_.indexer = paged(random.integers(start / shape.ratio * shape.index_dim, 4),
                                 quant::KvRowFormat::indexer(shape.format, shape.index_dim));
        history_.indexer_compressor = frontier(random, shape.index_dim, start);
    }

    // Points into this object.
    LayerHistory history() const {
        LayerHistory h = history_;
        if (!pages_.empty()) h.compressed.pages = pages_[0].data();
        if (pages_.size() > 1) h.indexer.pages = pages_[1].data();
        return h;
    }

    std::vector<float> window() const {
        return device_.download<float>(history_.window, shape_.window_rows * shape_.head_dim);
    }
    std::vector<float> rows(bool of_indexer) const {
        const PagedRows list = of_indexer ? history().indexer : history().compressed;
        std::vector<float> all;
        for (std::int64_t i = 0; i < n_tokens_ / shape_.ratio; ++i) {
            const std::vector<float> row = this->row(list, i);
            all.insert(all.end(), row.begin(), row.end());
        }
        return all;
    }
    std::vector<float> row(const PagedRows& list, std::int64_t i) const {
        const auto stored =
            device_.download<std::byte>(list.row(i), static_cast<std::int64_t>(list.format.bytes));
        std::vector<float> values(static_cast<std::size_t>(list.format.width));
        quant::decode_kv_row(list.format, stored.data(), values.data());
        return values;
    }
    static void put_row(Device& device, const PagedRows& list, std::int64_t i,
                        const std::vector<float>& values) {
        std::vector<std::byte> stored(list.format.bytes);
        quant::encode_kv_row(list.format, values.data(), stored.data());
        device.backend().upload(list.row(i), stored.data(), stored.size());
    }
    // Values, then scores.
    std::vector<float> frontier(bool of_indexer) const {
        const Frontier& f = of_indexer ? history_.indexer_compressor : history_.compressor;
        const std::int64_t n = shape_.slots() * shape_.width(of_indexer ? shape_.index_dim : shape_.head_dim);
        std::vector<float> all = device_.download<float>(f.value, n);
        const std::vector<float> scores = device_.download<float>(f.score, n);
        all.insert(all.end(), scores.begin(), scores.end());
        return all;
    }

  private:
    // Slots of positions that were never seen hold NaN: nobody may look at them.
    std::vector<float> window(Random& random, std::int64_t start) {
        std::vector<float> ring = random.gaussian(shape_.window_rows * shape_.head_dim);
        const std::int64_t seen = std::min(start, shape_.window_rows) * shape_.head_dim;
        std::fill(ring.begin() + seen, ring.end(), std::numeric_limits<float>::quiet_NaN());
        return ring;
    }

    // Pages of eight rows with something else before them. Rows that nobody has written hold NaN in every
    // format.
    PagedRows paged(const std::vector<float>& rows, const quant::KvRowFormat& format) {
        constexpr int kLog2Rows = 3;
        constexpr std::size_t kOffset = 5;
        std::vector<std::byte*>& pages = pages_.emplace_back();
        for (std::int64_t first = 0; first <= n_tokens_ / shape_.ratio; first += 1 << kLog2Rows) {
            std::vector<std::byte> page(kOffset + (format.bytes << kLog2Rows), std::byte{0xff});
            pages.push_back(device_.upload(page));
        }
        PagedRows list{pages.data(), kOffset, kLog2Rows, format};
        const auto width = static_cast<std::ptrdiff_t>(format.width);
        for (std::ptrdiff_t i = 0; i * width < static_cast<std::ptrdiff_t>(rows.size()); ++i) {
            put_row(device_, list, i, {rows.begin() + i * width, rows.begin() + (i + 1) * width});
        }
        return list;
    }

    // The canonical frontier of model.md 7.1: unused slots hold value 0 and score -infinity.
    Frontier frontier(Random& random, std::int64_t dim, std::int64_t start) {
        const std::int64_t n = shape_.slots() * shape_.width(dim);
        std::vector<float> value = random.gaussian(n);
        std::vector<float> score = random.gaussian(n, 3);
        for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
            const bool previous = shape_.overlapping() && slot < shape_.ratio;
            if (previous ? start >= shape_.ratio : slot % shape_.ratio < start % shape_.ratio) continue;
            std::fill_n(value.begin() + slot * shape_.width(dim), shape_.width(dim), 0.0F);
            std::fill_n(score.begin() + slot * shape_.width(dim), shape_.width(dim),
                        -std::numeric_limits<float>::infinity());
        }
        return {device_.upload(value), device_.upload(score)};
    }

    Device& device_;
    LayerShape shape_;
    std::int64_t n_tokens_;
    LayerHistory history_;
    std::vector<std::vector<std::byte*>> pages_;
};

// The rows of a batch of segments given as (start, rows).
class TestBatch {
  public:
    explicit TestBatch(const std::vector<std::pair<std::int64_t, std::int64_t>>& segments) {
        for (const auto& [start, n] : segments) {
            segments_.push_back({static_cast<std::int64_t>(tokens_.size()), n, start});
            for (std::int64_t i = 0; i < n; ++i) {
                tokens_.push_back(0);
                positions_.push_back(static_cast<std::int32_t>(start + i));
            }
        }
    }

    BatchRows rows() const { return {tokens_, positions_, segments_}; }
    std::int64_t n() const { return static_cast<std::int64_t>(tokens_.size()); }

  private:
    std::vector<TokenId> tokens_;
    std::vector<std::int32_t> positions_;
    std::vector<Segment> segments_;
};

}  // namespace ds4::test
