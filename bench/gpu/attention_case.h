#pragma once

#include <cstring>

#include "backend/gpu/cuda/attention.h"
#include "backend/gpu/cuda/entries.h"
#include "device_memory.h"

// Attention of one layer of Flash over random histories: what there is to launch, and the shared body for
// comparison.
namespace ds4::gpu::bench {

constexpr std::uint32_t kHeads = 64, kHeadDim = 512, kWindow = 128, kCapacity = 512, kTail = 64;

struct AttentionShape {
    std::uint32_t n_rows;  // of the batch
    bool decodes;          // a segment per row; otherwise all rows are one
    std::uint32_t depth;   // tokens before each segment
    std::uint32_t ratio;   // 0: window alone, 4: with a selection, 128: all compressed rows
    std::uint32_t format;  // quant::KvRowFormat::Code
};

class AttentionCase {
  public:
    explicit AttentionCase(const AttentionShape& shape)
        : shape_(shape),
          random_(7),
          q_(random_values(std::size_t{shape.n_rows} * kHeads * kHeadDim, 1)),
          kv_(random_values(std::size_t{shape.n_rows} * kHeadDim, 2)),
          sinks_(random_values(kHeads, 3)),
          out_(std::size_t{shape.n_rows} * kHeads * kHeadDim) {
        make_histories();
        make_selection();
        const std::uint32_t most_pieces = (most_seen() + 63) / 64;
        partial_ = Device<float>(std::size_t{std::min(shape.n_rows, kMostSplit)} * kHeads * most_pieces *
                                 (kHeadDim + 2));
        args_.batch = {segments_.get(), history_.get(), row_segment_.get(), shape.n_rows};
        args_.q = q_.get();
        args_.kv = kv_.get();
        args_.sinks = sinks_.get();
        args_.list = shape.ratio == 4 ? list_.get() : nullptr;
        args_.count = count_.get();
        args_.out = out_.get();
        args_.partial = partial_.get();
        args_.capacity = kCapacity;
        args_.n_heads = kHeads;
        args_.head_dim = kHeadDim;
        args_.window = kWindow;
        args_.ratio = shape.ratio;
        args_.n_rows = shape.n_rows;
        args_.n_pieces = most_pieces;
        args_.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    }

    static constexpr std::uint32_t kMostSplit = 64;  // generated rows of a step

    // The first n rows in one launch.
    void launch_whole(std::uint32_t n, cudaStream_t stream) const {
        start(Kernel::attention_whole, n, stream);
    }
    // The same in two.
    void launch_split(std::uint32_t n, cudaStream_t stream) const {
        start(Kernel::attention_split, n, stream);
        start(Kernel::attention_merge, n, stream);
    }

    // What `launch` leaves of n rows.
    template <class F>
    std::vector<float> output(std::uint32_t n, const F& launch) const {
        out_.poison();
        partial_.poison();
        launch();
        check(cudaDeviceSynchronize(), "attention");
        std::vector<float> out = out_.host();
        out.resize(std::size_t{n} * kHeads * kHeadDim);
        return out;
    }
    std::vector<float> oracle() const {
        return output(shape_.n_rows, [&] {
            const cuda::Entry entry = cuda::entry(Kernel::attention_whole);
            AttentionArgs args = args_;
            void* values[] = {&args};
            check(cudaLaunchKernel(entry.function, dim3(shape_.n_rows * kHeads / 8), dim3(entry.n_threads),
                                   values, 0, nullptr),
                  "shared body");
        });
    }

    double flops() const { return 4.0 * static_cast<double>(n_seen_) * kHeads * kHeadDim; }

  private:
    void start(Kernel kernel, std::uint32_t n, cudaStream_t stream) const {
        AttentionArgs args = args_;
        args.n_rows = n;
        cudaError_t status = cudaSuccess;
        if (!cuda::launch_attention(make_launch(kernel, {}, args), stream, status))
            throw std::runtime_error("this GPU has no attention on matrix units");
        check(status, "attention");
    }

    std::uint32_t end() const { return shape_.depth + (shape_.decodes ? 1 : shape_.n_rows); }
    std::uint32_t n_compressed() const { return shape_.ratio == 0 ? 0 : end() / shape_.ratio; }
    std::uint32_t most_seen() const {
        return kWindow + (shape_.ratio == 4 ? std::min(kCapacity, n_compressed()) : n_compressed());
    }

    KvFormatArgs format() const {
        if (shape_.format == 0) return {0, kHeadDim, kTail, (kHeadDim - kTail) / 64 * 65 + 2 * kTail};
        if (shape_.format == 2) return {2, kHeadDim, 0, 2 * kHeadDim};
        return {shape_.format, kHeadDim, 0, 4 * kHeadDim};
    }
    std::uint16_t random_half() {
        const std::uint32_t bits = random_();
        return static_cast<std::uint16_t>((bits & 0x83ff) | (12 + (bits >> 16) % 4) << 10);
    }
    void fill_row(const KvFormatArgs& f, std::uint8_t* row) {
        const auto halves = [&](std::uint8_t* to, std::uint32_t n) {
            for (std::uint32_t i = 0; i < n; ++i) {
                const std::uint16_t h = random_half();
                std::memcpy(to + 2 * i, &h, 2);
            }
        };
        if (f.code == 0) {
            const std::uint32_t n = f.width - f.n_tail, n_blocks = n / 64;
            for (std::uint32_t i = 0; i < n_blocks; ++i)
                row[i] = static_cast<std::uint8_t>(118 + random_() % 4);
            for (std::uint32_t i = 0; i < n; ++i) {
                const std::uint32_t code = random_() & 0xff;
                row[n_blocks + i] = static_cast<std::uint8_t>((code & 0x7f) == 0x7f ? 0 : code);
            }
            halves(row + n_blocks + n, f.n_tail);
        } else if (f.code == 2) {
            halves(row, f.width);
        } else {
            std::normal_distribution<float> normal;
            for (std::uint32_t i = 0; i < f.width; ++i) {
                const float x = normal(random_);
                std::memcpy(row + 4 * i, &x, 4);
            }
        }
    }

    void make_histories() {
        constexpr std::uint32_t kLog2Rows = 6, kOffset = 48;
        const std::uint32_t n_segments = shape_.decodes ? shape_.n_rows : 1;
        const KvFormatArgs f = format();
        const std::uint32_t n_pages = (n_compressed() >> kLog2Rows) + 1;
        const std::size_t page_bytes = ((std::size_t{f.bytes} << kLog2Rows) + kOffset + 255) / 256 * 256;
        std::vector<std::uint8_t> content(n_segments * n_pages * page_bytes);
        for (std::uint32_t p = 0; p < n_segments * n_pages; ++p) {
            for (std::uint32_t r = 0; r < 1u << kLog2Rows; ++r)
                fill_row(f, content.data() + p * page_bytes + kOffset + std::size_t{r} * f.bytes);
        }
        content_ = Device<std::uint8_t>(content);
        std::vector<std::uint8_t*> pages(n_segments * n_pages);
        for (std::size_t p = 0; p < pages.size(); ++p) pages[p] = content_.get() + p * page_bytes;
        pages_ = Device<std::uint8_t*>(pages);
        window_ = Device<float>(random_values(std::size_t{n_segments} * kWindow * kHeadDim, 4));

        std::vector<SegmentArgs> segments;
        std::vector<HistoryArgs> history(n_segments);
        std::vector<std::int32_t> row_segment(shape_.n_rows, 0);
        for (std::uint32_t s = 0; s < n_segments; ++s) {
            segments.push_back({static_cast<std::int32_t>(s),
                                static_cast<std::int32_t>(shape_.decodes ? 1 : shape_.n_rows),
                                static_cast<std::int32_t>(shape_.depth)});
            history[s].window = window_.get() + std::size_t{s} * kWindow * kHeadDim;
            history[s].compressed = {pages_.get() + std::size_t{s} * n_pages, kOffset, kLog2Rows, f};
            history[s].window_rows = kWindow;
            if (shape_.decodes) row_segment[s] = static_cast<std::int32_t>(s);
        }
        segments_ = Device<SegmentArgs>(segments);
        history_ = Device<HistoryArgs>(history);
        row_segment_ = Device<std::int32_t>(row_segment);
    }

    // Of each row one of every stretch of the rows it sees.
    void make_selection() {
        std::vector<std::int32_t> list(std::size_t{shape_.n_rows} * kCapacity, -1);
        std::vector<std::int32_t> count(shape_.n_rows, 0);
        for (std::uint32_t r = 0; r < shape_.n_rows; ++r) {
            const std::uint32_t position = shape_.depth + (shape_.decodes ? 0 : r);
            const std::uint32_t seen = shape_.ratio == 0 ? 0 : (position + 1) / shape_.ratio;
            n_seen_ +=
                std::min(kWindow, position + 1) + (shape_.ratio == 4 ? std::min(seen, kCapacity) : seen);
            if (shape_.ratio != 4) continue;
            const std::uint32_t n = std::min(seen, kCapacity);
            count[r] = static_cast<std::int32_t>(n);
            for (std::uint32_t i = 0; i < n; ++i) {
                const std::uint32_t first = i * seen / n, next = (i + 1) * seen / n;
                list[std::size_t{r} * kCapacity + i] =
                    static_cast<std::int32_t>(first + random_() % (next - first));
            }
        }
        list_ = Device<std::int32_t>(list);
        count_ = Device<std::int32_t>(count);
    }

    AttentionShape shape_;
    std::mt19937 random_;
    std::uint64_t n_seen_ = 0;  // keys, over all rows
    Device<float> q_, kv_, sinks_, out_, partial_, window_;
    Device<std::uint8_t> content_;
    Device<std::uint8_t*> pages_;
    Device<SegmentArgs> segments_;
    Device<HistoryArgs> history_;
    Device<std::int32_t> row_segment_, list_, count_;
    AttentionArgs args_{};
};

}  // namespace ds4::gpu::bench
