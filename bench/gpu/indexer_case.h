#pragma once

#include <cstring>

#include "backend/gpu/cuda/entries.h"
#include "backend/gpu/cuda/indexer.h"
#include "device_memory.h"

// The indexer of one layer of Flash over random rows stored as FP4: what there is to launch, and the shared
// bodies for comparison.
namespace ds4::gpu::bench {

constexpr std::uint32_t kHeads = 64, kIndexDim = 128, kCapacity = 512, kRatio = 4;

struct IndexShape {
    std::uint32_t n_rows;  // of the batch
    bool decodes;          // a segment per row; otherwise all rows are one
    std::uint32_t depth;   // tokens before each segment
    bool ties;             // weights of which most are 0, so that many scores are equal
};

class IndexCase {
  public:
    explicit IndexCase(const IndexShape& shape)
        : shape_(shape),
          random_(5),
          q_(queries()),
          weight_(weights()),
          stride_((end() / kRatio + 31) / 32 * 32),
          at_once_(std::clamp((std::uint32_t{1} << 24) / stride_, 1u, shape.n_rows)),
          scores_(std::size_t{at_once_} * stride_),
          list_(std::size_t{shape.n_rows} * kCapacity),
          count_(shape.n_rows),
          arrived_(std::vector<std::uint32_t>(shape.n_rows, 0)) {
        make_histories();
    }

    std::uint32_t n_rows() const { return shape_.n_rows; }
    std::uint32_t at_once() const { return at_once_; }
    std::uint32_t seen(std::uint32_t row) const {
        return (shape_.depth + (shape_.decodes ? 0 : row) + 1) / kRatio;
    }
    double flops() const {
        double keys = 0;
        for (std::uint32_t r = 0; r < shape_.n_rows; ++r) keys += seen(r) > kCapacity ? seen(r) : 0;
        return keys * kHeads * kIndexDim * 2;
    }

    // Rows [first, first + n) each: scores, the choice, both in one.
    Launch scores(std::uint32_t first, std::uint32_t n) const {
        return make_launch(Kernel::index_scores, {n, stride_ / 32}, score_args(first));
    }
    Launch select(std::uint32_t first, std::uint32_t n) const {
        return make_launch(Kernel::select_rows, {n}, select_args(first));
    }
    Launch both(std::uint32_t first, std::uint32_t n) const {
        return make_launch(Kernel::index_select, {n, stride_ / 32},
                           IndexSelectArgs{score_args(first), list_.get(), count_.get(), arrived_.get()});
    }
    // What a step does.
    void step(cudaStream_t stream) const {
        if (shape_.n_rows <= 64) return start(both(0, shape_.n_rows), stream);
        for (std::uint32_t first = 0; first < shape_.n_rows; first += at_once_) {
            const std::uint32_t n = std::min(at_once_, shape_.n_rows - first);
            start(scores(first, n), stream);
            start(select(first, n), stream);
        }
    }

    static void start(const Launch& launch, cudaStream_t stream) {
        cudaError_t status = cudaSuccess;
        if (!cuda::launch_indexer(launch, stream, status)) throw std::runtime_error("no body of its own");
        check(status, "indexer");
    }
    static void start_shared(const Launch& launch) {
        const cuda::Entry entry = cuda::entry(launch.kernel);
        Launch copy = launch;
        void* values[] = {copy.args.data()};
        check(cudaLaunchKernel(entry.function, dim3(launch.grid.x, launch.grid.y), dim3(entry.n_threads),
                               values, 0, nullptr),
              "shared body");
    }

    void poison_scores() const { scores_.poison(); }
    void poison_choice() const {
        list_.poison();
        count_.poison();
    }
    // Scores of rows [first, first + n) that are wanted, one row after the other.
    std::vector<float> wanted_scores(std::uint32_t first, std::uint32_t n) const {
        check(cudaDeviceSynchronize(), "scores");
        std::vector<float> all, row(stride_);
        for (std::uint32_t r = 0; r < n; ++r) {
            const std::uint32_t n_keys = seen(first + r);
            if (n_keys <= kCapacity) continue;
            check(cudaMemcpy(row.data(), scores_.get() + std::size_t{r} * stride_, n_keys * sizeof(float),
                             cudaMemcpyDeviceToHost),
                  "download");
            all.insert(all.end(), row.begin(), row.begin() + n_keys);
        }
        return all;
    }
    std::size_t stride() const { return stride_; }
    std::size_t score_floats() const { return scores_.size(); }
    void set_scores(const std::vector<float>& values) const {
        check(cudaMemcpy(scores_.get(), values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice),
              "upload");
    }
    // Counts and lists of rows [first, first + n).
    std::vector<std::int32_t> choice(std::uint32_t first, std::uint32_t n) const {
        check(cudaDeviceSynchronize(), "selection");
        const std::vector<std::int32_t> count = count_.host(), list = list_.host();
        std::vector<std::int32_t> out;
        for (std::uint32_t r = first; r < first + n; ++r) {
            out.push_back(count[r]);
            const auto row = list.begin() + r * std::ptrdiff_t{kCapacity};
            out.insert(out.end(), row, row + std::clamp<std::int32_t>(count[r], 0, kCapacity));
        }
        return out;
    }
    bool nobody_arrived() const {
        const std::vector<std::uint32_t> arrived = arrived_.host();
        return std::all_of(arrived.begin(), arrived.end(), [](std::uint32_t n) { return n == 0; });
    }

  private:
    // A power of two, as the backend has it.
    std::uint32_t end() const {
        std::uint32_t end = 1;
        while (end < shape_.depth + (shape_.decodes ? 1 : shape_.n_rows)) end *= 2;
        return end;
    }

    IndexScoresArgs score_args(std::uint32_t first) const {
        return {batch_,  q_.get(), weight_.get(), scores_.get(), first,
                stride_, kHeads,   kIndexDim,     kCapacity,     1};
    }
    SelectArgs select_args(std::uint32_t first) const {
        return {batch_, scores_.get(), list_.get(), count_.get(), first, stride_, kCapacity};
    }

    // On the FP4 grid, a scale for every 32.
    std::vector<float> queries() {
        constexpr float kGrid[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
        std::vector<float> q(std::size_t{shape_.n_rows} * kHeads * kIndexDim);
        float scale = 1;
        for (std::size_t i = 0; i < q.size(); ++i) {
            const std::uint32_t bits = random_();
            if (i % 32 == 0) scale = std::ldexp(1.0F, static_cast<int>(bits >> 8 & 3) - 2);
            q[i] = kGrid[bits & 7] * ((bits & 16) != 0 ? -scale : scale);
        }
        return q;
    }
    std::vector<float> weights() {
        std::vector<float> w = random_values(std::size_t{shape_.n_rows} * kHeads, 3);
        for (std::size_t i = 0; shape_.ties && i < w.size(); ++i) w[i] = i % 64 == 63 && i / 64 % 2 == 0;
        return w;
    }

    void make_histories() {
        constexpr std::uint32_t kLog2Rows = 6, kOffset = 48, kRowBytes = kIndexDim / 32 * 17;
        const std::uint32_t n_segments = shape_.decodes ? shape_.n_rows : 1;
        const std::uint32_t n_pages = (end() / kRatio >> kLog2Rows) + 1;
        constexpr std::size_t kPageBytes = ((kRowBytes << kLog2Rows) + kOffset + 255) / 256 * 256;
        std::vector<std::uint8_t> content(n_segments * n_pages * kPageBytes);
        for (std::size_t i = 0; i < content.size(); i += 4) {
            const std::uint32_t bits = random_();
            std::memcpy(content.data() + i, &bits, 4);
        }
        for (std::size_t p = 0; p < n_segments * n_pages; ++p) {
            for (std::uint32_t r = 0; r < 1u << kLog2Rows; ++r) {
                std::uint8_t* row = content.data() + p * kPageBytes + kOffset + std::size_t{r} * kRowBytes;
                for (std::uint32_t b = 0; b < kIndexDim / 32; ++b)
                    row[b] = static_cast<std::uint8_t>(122 + row[b] % 4);
            }
        }
        content_ = Device<std::uint8_t>(content);
        std::vector<std::uint8_t*> pages(n_segments * n_pages);
        for (std::size_t p = 0; p < pages.size(); ++p) pages[p] = content_.get() + p * kPageBytes;
        pages_ = Device<std::uint8_t*>(pages);

        std::vector<SegmentArgs> segments;
        std::vector<HistoryArgs> history(n_segments);
        std::vector<std::int32_t> row_segment(shape_.n_rows, 0);
        for (std::uint32_t s = 0; s < n_segments; ++s) {
            segments.push_back({static_cast<std::int32_t>(s),
                                static_cast<std::int32_t>(shape_.decodes ? 1 : shape_.n_rows),
                                static_cast<std::int32_t>(shape_.depth)});
            history[s].indexer = {
                pages_.get() + std::size_t{s} * n_pages, kOffset, kLog2Rows, {1, kIndexDim, 0, kRowBytes}};
            if (shape_.decodes) row_segment[s] = static_cast<std::int32_t>(s);
        }
        segments_ = Device<SegmentArgs>(segments);
        history_ = Device<HistoryArgs>(history);
        row_segment_ = Device<std::int32_t>(row_segment);
        batch_ = {segments_.get(), history_.get(), row_segment_.get(), shape_.n_rows};
    }

    IndexShape shape_;
    std::mt19937 random_;
    Device<float> q_, weight_;
    std::uint32_t stride_, at_once_;
    Device<float> scores_;
    Device<std::int32_t> list_, count_;
    Device<std::uint32_t> arrived_;
    Device<std::uint8_t> content_;
    Device<std::uint8_t*> pages_;
    Device<SegmentArgs> segments_;
    Device<HistoryArgs> history_;
    Device<std::int32_t> row_segment_;
    BatchArgs batch_{};
};

}  // namespace ds4::gpu::bench
