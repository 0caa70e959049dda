#pragma once

#include <cstring>

#include "backend/gpu/cuda/matrix.h"
#include "support.h"

namespace ds4::gpu::bench {

struct ProductSpec {
    tiles::Layout layout;
    std::uint32_t n_out;
    ProductOutput output = ProductOutput::f32;
    bool whole_x = false;
};

// One launch of `product`: matrices that read the same x.
class ProductCase {
  public:
    static constexpr std::uint32_t kCheckedRows = 200;

    ProductCase(std::string name, std::uint32_t n_in, std::uint32_t n_groups, std::vector<ProductSpec> specs,
                std::uint32_t max_rows)
        : name_(std::move(name)),
          n_in_(n_in),
          n_groups_(n_groups),
          max_rows_(max_rows),
          specs_(std::move(specs)) {
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            const ProductSpec& s = specs_[i];
            tiles_.push_back(Device<std::uint8_t>(matrices(s) * tile_bytes(s)));
            for (std::uint32_t which = 0; which < matrices(s); ++which) {
                const auto blocks = source(i, which);
                RepackArgs r{};
                r.from = blocks.get(), r.to = tiles_[i].get();
                r.stack = 1, r.n_out = s.n_out, r.n_in = n_in_;
                r.tile_step = matrices(s), r.tile_first = which;
                r.layout = static_cast<std::uint32_t>(s.layout);
                check(cuda::launch_repack(r, nullptr), "repack");
                check(cudaDeviceSynchronize(), "repack");
            }
            const std::size_t results = std::size_t{max_rows_} * s.n_out;
            const bool is_f32 = s.output == ProductOutput::f32;
            y_.push_back(Device<float>(is_f32 ? results : 0));
            y_halves_.push_back(Device<std::uint16_t>(is_f32 ? 0 : results));
        }
        const std::size_t width = std::size_t{n_groups_} * n_in_;
        x_f32_ = Device<float>(random_values(max_rows_ * width, 199));
        x_ = Device<std::uint16_t>(max_rows_ * width);
        x_low_ = Device<std::uint16_t>(max_rows_ * width);
        launch_halves(max_rows_, nullptr);
        check(cudaDeviceSynchronize(), "halves");
    }

    const std::string& name() const { return name_; }
    double flops(std::uint32_t n) const {
        double sum = 0;
        for (const ProductSpec& s : specs_) sum += 2.0 * n * n_in_ * s.n_out * matrices(s);
        return sum;
    }

    void launch(std::uint32_t first_row, std::uint32_t n, cudaStream_t stream) const {
        const std::size_t skip = std::size_t{first_row} * n_groups_ * n_in_;
        ProductArgs a{};
        a.x = x_.get() + skip, a.x_low = x_low_.get() + skip;
        a.n = n, a.n_in = n_in_, a.n_groups = n_groups_;
        a.n_matrices = static_cast<std::uint32_t>(specs_.size());
        a.clamp = 10;
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            const ProductSpec& s = specs_[i];
            ProductMatrix& m = a.matrix[i];
            m.tiles = tiles_[i].get();
            if (s.output == ProductOutput::f32) {
                m.y = y_[i].get();
            } else {
                m.y_halves = y_halves_[i].get();
            }
            m.y_width = m.n_out = s.n_out;
            m.tiles_a_group = n_groups_ == 1 ? 0 : s.n_out / n_groups_ / tiles::kRows;
            m.layout = static_cast<std::uint8_t>(s.layout);
            m.output = static_cast<std::uint8_t>(s.output);
            m.whole_x = s.whole_x ? 1 : 0;
        }
        check(cuda::launch_product(a, stream), name_.c_str());
    }
    void launch_halves(std::uint32_t n, cudaStream_t stream) const {
        HalvesArgs a{};
        a.x = x_f32_.get(), a.high = x_.get(), a.n = n, a.n_in = n_groups_ * n_in_;
        for (const ProductSpec& s : specs_) a.low = s.whole_x ? x_low_.get() : a.low;
        check(cuda::launch_halves(a, stream), "halves");
    }

    // Largest relative error of the matrices against f64 of the unrounded x; with whole_x or without.
    double error(bool whole_x) {
        run(0, kCheckedRows);
        double worst = 0;
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            if (specs_[i].whole_x == whole_x) worst = std::max(worst, error_of(i));
        }
        return worst;
    }
    bool rows_keep_their_bits() {
        run(0, kCheckedRows);
        const auto all = results();
        for (const auto& [first, n] : {std::pair{0u, 1u}, {5u, 31u}, {120u, 64u}, {7u, 90u}, {60u, 128u}}) {
            run(first, n);
            const auto some = results();
            for (std::size_t i = 0; i < specs_.size(); ++i) {
                const std::size_t row = all[i].size() / max_rows_;
                if (std::memcmp(some[i].data(), all[i].data() + first * row, n * row) != 0) return false;
            }
        }
        return true;
    }

  private:
    static std::uint32_t matrices(const ProductSpec& s) {
        return s.output == ProductOutput::swiglu_halves ? 2 : 1;
    }
    std::size_t tile_bytes(const ProductSpec& s) const {
        const tiles::Shape shape = tiles::shape(s.layout);
        return std::size_t{tiles::divide_up(s.n_out, tiles::kRows)} * tiles::divide_up(n_in_, shape.inputs) *
               shape.bytes;
    }
    Device<std::uint8_t> source(std::size_t i, std::uint32_t which) const {
        const tiles::Shape shape = tiles::shape(specs_[i].layout);
        const std::size_t n = std::size_t{specs_[i].n_out} * n_in_ / shape.block_elems;
        Device<std::uint8_t> blocks(n * shape.block_bytes);
        fill_blocks(specs_[i].layout, blocks.get(), n, static_cast<std::uint32_t>(700 + which + 2 * i));
        return blocks;
    }
    void run(std::uint32_t first, std::uint32_t n) {
        for (std::size_t i = 0; i < specs_.size(); ++i) y_[i].poison(), y_halves_[i].poison();
        launch(first, n, nullptr);
        check(cudaDeviceSynchronize(), name_.c_str());
    }
    std::vector<std::vector<std::uint8_t>> results() const {
        std::vector<std::vector<std::uint8_t>> all;
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            const auto copy = [&](const auto& v) {
                std::vector<std::uint8_t> bytes(v.size() * sizeof(v[0]));
                std::memcpy(bytes.data(), v.data(), bytes.size());
                all.push_back(std::move(bytes));
            };
            specs_[i].output == ProductOutput::f32 ? copy(y_[i].host()) : copy(y_halves_[i].host());
        }
        return all;
    }
    double error_of(std::size_t i) const {
        const ProductSpec& s = specs_[i];
        const tiles::Shape shape = tiles::shape(s.layout);
        const std::uint32_t rows = s.n_out / n_groups_;
        std::vector<std::vector<double>> products;
        for (std::uint32_t which = 0; which < matrices(s); ++which) {
            const auto blocks = source(i, which);
            Device<double> y(std::size_t{kCheckedRows} * s.n_out);
            for (std::uint32_t g = 0; g < n_groups_; ++g) {
                reference_product(
                    s.layout,
                    blocks.get() + std::size_t{g} * rows * n_in_ / shape.block_elems * shape.block_bytes,
                    rows, n_in_, x_f32_.get() + g * n_in_, kCheckedRows, n_groups_ * n_in_, nullptr,
                    y.get() + g * rows, s.n_out);
            }
            products.push_back(y.host());
        }
        if (s.output == ProductOutput::f32) return relative_error(y_[i].host(), products[0]);
        if (s.output == ProductOutput::swiglu_halves) {
            for (std::size_t j = 0; j < products[0].size(); ++j) {
                const double gate = std::min(products[0][j], 10.0),
                             up = std::clamp(products[1][j], -10.0, 10.0);
                products[0][j] = gate / (1 + std::exp(-gate)) * up;
            }
        }
        return relative_error(from_halves(y_halves_[i].host()), products[0]);
    }

    std::string name_;
    std::uint32_t n_in_, n_groups_, max_rows_;
    std::vector<ProductSpec> specs_;
    std::vector<Device<std::uint8_t>> tiles_;
    Device<float> x_f32_;
    Device<std::uint16_t> x_, x_low_;
    std::vector<Device<float>> y_;
    std::vector<Device<std::uint16_t>> y_halves_;
};

}  // namespace ds4::gpu::bench
