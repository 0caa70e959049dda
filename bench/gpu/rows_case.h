#pragma once

#include <cstring>

#include "backend/gpu/cuda/matrix.h"
#include "support.h"

namespace ds4::gpu::bench {

struct MatrixSpec {
    tiles::Layout layout;
    std::uint32_t n_out;
    RowsOutput output = RowsOutput::f32;
};

// One launch of `rows`: matrices that read the same x, in enough copies that they leave the cache between
// uses.
class RowsCase {
  public:
    static constexpr std::uint32_t kMaxRows = 16;

    RowsCase(std::string name, std::uint32_t n_in, std::uint32_t n_groups, RowsInput input,
             std::vector<MatrixSpec> specs, double total_bytes = 0.75e9)
        : name_(std::move(name)), n_in_(n_in), n_groups_(n_groups), input_(input), specs_(std::move(specs)) {
        for (const MatrixSpec& s : specs_) {
            offsets_.push_back(bytes_);
            bytes_ += tile_bytes(s) * matrices(s);
        }
        n_copies_ = std::clamp(static_cast<int>(total_bytes / static_cast<double>(bytes_)) + 1, 2, 400);
        tiles_ = Device<std::uint8_t>(bytes_ * static_cast<std::size_t>(n_copies_));
        for (int copy = 0; copy < n_copies_; ++copy) make_copy(copy);
        make_inputs();
    }

    const std::string& name() const { return name_; }
    double bytes() const { return static_cast<double>(bytes_); }
    int n_copies() const { return n_copies_; }

    void launch(std::uint32_t first_row, std::uint32_t n, int copy, cudaStream_t stream) const {
        const RowsArgs a = args(first_row, n, copy % n_copies_);
        check(cuda::launch_rows(a, stream), name_.c_str());
    }

    // Largest relative error of the matrices against f64.
    double error() {
        run(0, kMaxRows);
        double worst = 0;
        for (std::size_t i = 0; i < specs_.size(); ++i) worst = std::max(worst, error_of(i));
        return worst;
    }

    // Whether rows alone and in other company have the bits that they have among 16.
    bool rows_keep_their_bits() {
        run(0, kMaxRows);
        const auto all = results();
        for (const auto& [first, n] :
             {std::pair{0u, 1u}, {5u, 1u}, {15u, 1u}, {8u, 8u}, {4u, 3u}, {2u, 11u}}) {
            run(first, n);
            const auto some = results();
            for (std::size_t i = 0; i < specs_.size(); ++i) {
                const std::size_t row = all[i].size() / kMaxRows;
                if (std::memcmp(some[i].data(), all[i].data() + first * row, n * row) != 0) return false;
            }
        }
        return true;
    }

  private:
    static std::uint32_t matrices(const MatrixSpec& s) { return s.output == RowsOutput::swiglu ? 2 : 1; }
    std::size_t tile_bytes(const MatrixSpec& s) const {
        const tiles::Shape shape = tiles::shape(s.layout);
        return static_cast<std::size_t>(tiles::divide_up(s.n_out, tiles::kRows)) *
               tiles::divide_up(n_in_, shape.inputs) * shape.bytes;
    }
    std::size_t source_blocks(const MatrixSpec& s) const {
        return static_cast<std::size_t>(s.n_out) * n_in_ / tiles::shape(s.layout).block_elems;
    }
    Device<std::uint8_t> source(std::size_t i, std::uint32_t which, int copy) const {
        const MatrixSpec& s = specs_[i];
        Device<std::uint8_t> blocks(source_blocks(s) * tiles::shape(s.layout).block_bytes);
        fill_blocks(s.layout, blocks.get(), source_blocks(s),
                    static_cast<std::uint32_t>(1 + which + 2 * i + 16 * static_cast<std::size_t>(copy)));
        return blocks;
    }
    void make_copy(int copy) {
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            for (std::uint32_t which = 0; which < matrices(specs_[i]); ++which) {
                const auto blocks = source(i, which, copy);
                RepackArgs r{};
                r.from = blocks.get();
                r.to = tiles_.get() + bytes_ * static_cast<std::size_t>(copy) + offsets_[i];
                r.stack = 1;
                r.n_out = specs_[i].n_out;
                r.n_in = n_in_;
                r.tile_step = matrices(specs_[i]);
                r.tile_first = which;
                r.layout = static_cast<std::uint32_t>(specs_[i].layout);
                check(cuda::launch_repack(r, nullptr), "repack");
                check(cudaDeviceSynchronize(), "repack");
            }
        }
    }
    void make_inputs() {
        const std::size_t width = static_cast<std::size_t>(n_groups_) * n_in_;
        auto x = random_values(kMaxRows * width, 99);
        x_f32_ = Device<float>(x);
        auto norm = random_values(width, 98);
        for (float& w : norm) w = 1 + 0.1f * w;
        norm_ = Device<float>(norm);
        if (input_ == RowsInput::norm) {
            for (std::size_t r = 0; r < kMaxRows; ++r) {
                double sum = 0;
                for (std::size_t i = 0; i < width; ++i)
                    sum += static_cast<double>(x[r * width + i]) * x[r * width + i];
                const auto scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(width) + 1e-6));
                for (std::size_t i = 0; i < width; ++i) x[r * width + i] *= scale * norm[i];
            }
        }
        x_plain_ = Device<float>(x);
        const auto act = quantised(x, 32);
        x_act_ = Device<ActBlock>(act);
        x_coded_ = Device<float>(values(act));
        for (const MatrixSpec& s : specs_) {
            y_.push_back(Device<float>(static_cast<std::size_t>(kMaxRows) * s.n_out));
            y_act_.push_back(Device<ActBlock>(static_cast<std::size_t>(kMaxRows) * s.n_out / kActInputs));
        }
    }
    RowsArgs args(std::uint32_t first_row, std::uint32_t n, int copy) const {
        RowsArgs a{};
        const std::size_t width = static_cast<std::size_t>(n_groups_) * n_in_;
        a.x_act = x_act_.get() + first_row * (width / kActInputs);
        a.x_f32 = x_f32_.get() + first_row * width;
        a.norm = norm_.get();
        a.n = n;
        a.n_in = n_in_;
        a.n_groups = n_groups_;
        a.n_matrices = static_cast<std::uint32_t>(specs_.size());
        a.input = static_cast<std::uint32_t>(input_);
        a.eps = 1e-6f;
        a.clamp = 10;
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            const MatrixSpec& s = specs_[i];
            RowsMatrix& m = a.matrix[i];
            m.tiles = tiles_.get() + bytes_ * static_cast<std::size_t>(copy) + offsets_[i];
            if (s.output == RowsOutput::act) {
                m.y_act = y_act_[i].get();
            } else {
                m.y = y_[i].get();
            }
            m.y_width = s.n_out;
            m.n_out = s.n_out;
            m.k_split = rows_k_split(s.n_out * matrices(s), n_in_, s.output);
            m.layout = static_cast<std::uint8_t>(s.layout);
            m.output = static_cast<std::uint8_t>(s.output);
            m.tiles_a_group = n_groups_ == 1 ? 0 : s.n_out / n_groups_ / tiles::kRows;
        }
        set_passes(a);
        return a;
    }
    void run(std::uint32_t first_row, std::uint32_t n) {
        for (std::size_t i = 0; i < specs_.size(); ++i) y_[i].poison(), y_act_[i].poison();
        launch(first_row, n, 0, nullptr);
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
            specs_[i].output == RowsOutput::act ? copy(y_act_[i].host()) : copy(y_[i].host());
        }
        return all;
    }
    double error_of(std::size_t i) const {
        const MatrixSpec& s = specs_[i];
        const std::uint32_t rows_a_group = s.n_out / n_groups_;
        const Device<float>& x = s.layout == tiles::Layout::f16 ? x_plain_ : x_coded_;
        std::vector<std::vector<double>> products;
        for (std::uint32_t which = 0; which < matrices(s); ++which) {
            const auto blocks = source(i, which, 0);
            const tiles::Shape shape = tiles::shape(s.layout);
            Device<double> y(static_cast<std::size_t>(kMaxRows) * s.n_out);
            for (std::uint32_t g = 0; g < n_groups_; ++g) {
                reference_product(s.layout,
                                  blocks.get() + static_cast<std::size_t>(g) * rows_a_group * n_in_ /
                                                     shape.block_elems * shape.block_bytes,
                                  rows_a_group, n_in_, x.get() + g * n_in_, kMaxRows, n_groups_ * n_in_,
                                  nullptr, y.get() + g * rows_a_group, s.n_out);
            }
            products.push_back(y.host());
        }
        if (s.output == RowsOutput::swiglu) {
            for (std::size_t j = 0; j < products[0].size(); ++j) {
                const double gate = std::min(products[0][j], 10.0),
                             up = std::clamp(products[1][j], -10.0, 10.0);
                products[0][j] = gate / (1 + std::exp(-gate)) * up;
            }
        }
        return s.output == RowsOutput::act ? relative_error(values(y_act_[i].host()), products[0])
                                           : relative_error(y_[i].host(), products[0]);
    }

    std::string name_;
    std::uint32_t n_in_, n_groups_;
    RowsInput input_;
    std::vector<MatrixSpec> specs_;
    std::vector<std::size_t> offsets_;
    std::size_t bytes_ = 0;
    int n_copies_ = 0;
    Device<std::uint8_t> tiles_;
    Device<float> x_f32_, x_plain_, x_coded_, norm_;
    Device<ActBlock> x_act_;
    std::vector<Device<float>> y_;
    std::vector<Device<ActBlock>> y_act_;
};

}  // namespace ds4::gpu::bench
