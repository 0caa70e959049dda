#pragma once

#include <cstring>

#include "backend/gpu/cuda/entries.h"
#include "backend/gpu/cuda/streams.h"
#include "device_memory.h"

// Hyper-connections of some rows between two blocks of Flash: what there is to launch, and the shared bodies
// for comparison.
namespace ds4::gpu::bench {

constexpr std::uint32_t kStreams = 4, kWidth = 4096, kMixes = 24, kSlices = kWidth / kHcColumns;

enum class FnType : std::uint32_t { f32 = 0, f16 = 1, bf16 = 30 };  // quant::Type

struct StreamsShape {
    std::uint32_t n_rows;
    FnType type = FnType::f16;
    std::uint32_t n_mix = kMixes;  // kStreams: the head
    bool expands = true;
    std::uint32_t n_sites = 1;  // with weights of their own
};

// All that a site leaves.
struct SiteResult {
    std::vector<float> x, streams, post, comb;
};

class StreamsCase {
  public:
    explicit StreamsCase(const StreamsShape& shape)
        : shape_(shape),
          y_(random_values(std::size_t{shape.n_rows} * kWidth, 1)),
          base_(random_values(kMixes, 2)),
          scale_(random_values(3, 3)),
          norm_(random_values(kWidth, 4)),
          first_streams_(random_values(std::size_t{shape.n_rows} * kStreams * kWidth, 5)),
          first_post_(random_values(std::size_t{shape.n_rows} * kStreams, 6)),
          first_comb_(of_size(random_values(std::size_t{shape.n_rows} * kStreams * kStreams, 7), 0.5f)),
          streams_(first_streams_.size()),
          post_(first_post_.size()),
          comb_(first_comb_.size()),
          x_(std::size_t{shape.n_rows} * kWidth),
          partial_(std::size_t{shape.n_rows} * kSlices * (kMixes + 1)) {
        for (std::uint32_t site = 0; site < shape.n_sites; ++site) fn_.push_back(random_fn(8 + site));
        reset();
    }

    // The state before the first site.
    void reset() const {
        const auto copy = [](const Device<float>& to, const Device<float>& from) {
            check(cudaMemcpy(to.get(), from.get(), from.size() * sizeof(float), cudaMemcpyDeviceToDevice),
                  "reset");
        };
        copy(streams_, first_streams_);
        copy(post_, first_post_);
        copy(comb_, first_comb_);
        x_.poison();
        partial_.poison();
    }
    SiteResult result() const {
        check(cudaDeviceSynchronize(), "streams");
        return {x_.host(), streams_.host(), post_.host(), comb_.host()};
    }

    // Rows [first, first + n) in one launch, as generated rows.
    void launch_site(std::uint32_t site, std::uint32_t first, std::uint32_t n, cudaStream_t stream) const {
        start(Kernel::hc_site, {n}, site_args(site, first), stream);
    }
    void launch_dots(std::uint32_t site, std::uint32_t first, std::uint32_t n, cudaStream_t stream) const {
        start(Kernel::hc_dots, {kSlices, (n + kHcRows - 1) / kHcRows}, dots_args(site, first, n), stream);
    }
    void launch_mix(std::uint32_t first, std::uint32_t n, cudaStream_t stream) const {
        start(Kernel::hc_mix, {n}, mix_args(first), stream);
    }
    // The shared body, for all rows.
    void launch_plain() const {
        const cuda::Entry entry = cuda::entry(Kernel::hc_site);
        HcSiteArgs args = site_args(0, 0);
        void* values[] = {&args};
        check(
            cudaLaunchKernel(entry.function, dim3(shape_.n_rows), dim3(entry.n_threads), values, 0, nullptr),
            "shared body");
    }

    const StreamsShape& shape() const { return shape_; }
    // Least bytes to read and write for the streams and what they are made of and become; fn is in the cache.
    double prompt_bytes() const { return 4.0 * shape_.n_rows * kWidth * (3 * kStreams + 2); }

  private:
    static std::vector<float> of_size(std::vector<float> x, float size) {
        for (float& v : x) v *= size;
        return x;
    }
    Device<std::uint8_t> random_fn(std::uint32_t seed) const {
        const std::vector<float> values =
            of_size(random_values(std::size_t{kMixes} * kStreams * kWidth, seed), 1.0f / 128);
        std::vector<std::uint8_t> bytes(values.size() * fn_bytes());
        for (std::size_t i = 0; i < values.size(); ++i) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, &values[i], 4);
            if (shape_.type == FnType::bf16) bits >>= 16;
            if (shape_.type == FnType::f16) {
                // Cut off, not rounded; values of this size are normal halves or nothing.
                const std::uint32_t exponent = bits >> 23 & 255;
                const std::uint32_t magnitude = exponent < 113 ? 0 : (bits & 0x7fffffff) - (112u << 23);
                bits = bits >> 31 << 15 | magnitude >> 13;
            }
            std::memcpy(bytes.data() + i * fn_bytes(), &bits, fn_bytes());
        }
        return Device<std::uint8_t>(bytes);
    }
    std::size_t fn_bytes() const { return shape_.type == FnType::f32 ? 4 : 2; }

    HcExpandArgs expand_args(std::uint32_t first) const {
        const float* y = shape_.expands ? y_.get() + std::size_t{first} * kWidth : nullptr;
        return {y,
                post_.get() + first * kStreams,
                comb_.get() + first * kStreams * kStreams,
                streams_.get() + std::size_t{first} * kStreams * kWidth,
                kWidth,
                kStreams};
    }
    HcMixArgs mix_args(std::uint32_t first) const {
        const bool is_head = shape_.n_mix == kStreams;
        HcMixArgs a{};
        a.streams = streams_.get() + std::size_t{first} * kStreams * kWidth;
        a.partial = partial_.get() + std::size_t{first} * kSlices * (shape_.n_mix + 1);
        a.base = base_.get();
        a.scale = scale_.get();
        a.x = x_.get() + std::size_t{first} * kWidth;
        a.post = is_head ? nullptr : post_.get() + first * kStreams;
        a.comb = is_head ? nullptr : comb_.get() + first * kStreams * kStreams;
        a.norm = norm_.get();
        a.width = kWidth;
        a.n_streams = kStreams;
        a.n_mix = shape_.n_mix;
        a.n_slices = kSlices;
        a.sinkhorn_iterations = 20;
        a.eps = a.rms_eps = a.norm_eps = 1e-6f;
        return a;
    }
    HcDotsArgs dots_args(std::uint32_t site, std::uint32_t first, std::uint32_t n) const {
        return {expand_args(first),
                fn_[site].get(),
                partial_.get() + std::size_t{first} * kSlices * (shape_.n_mix + 1),
                static_cast<std::int64_t>(kStreams * kWidth * fn_bytes()),
                static_cast<std::uint32_t>(shape_.type),
                n,
                shape_.n_mix,
                kSlices};
    }
    HcSiteArgs site_args(std::uint32_t site, std::uint32_t first) const {
        HcSiteArgs a{};
        a.expand = expand_args(first);
        a.mix = mix_args(first);
        a.fn = fn_[site].get();
        a.row_bytes = static_cast<std::int64_t>(kStreams * kWidth * fn_bytes());
        a.type = static_cast<std::uint32_t>(shape_.type);
        return a;
    }

    template <class Args>
    static void start(Kernel kernel, Grid grid, const Args& args, cudaStream_t stream) {
        cudaError_t status = cudaSuccess;
        if (!cuda::launch_streams(make_launch(kernel, grid, args), stream, status))
            throw std::runtime_error("this GPU has no kernels of its own for hyper-connections");
        check(status, "streams");
    }

    StreamsShape shape_;
    Device<float> y_, base_, scale_, norm_, first_streams_, first_post_, first_comb_;
    Device<float> streams_, post_, comb_, x_, partial_;
    std::vector<Device<std::uint8_t>> fn_;
};

}  // namespace ds4::gpu::bench
